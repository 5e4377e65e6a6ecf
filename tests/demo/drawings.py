"""Drawings of eight subjects with a long tail: every prompt has a favourite look and many rarer ones.

A drawing is one row of ATTRIBUTES plus continuous jitter. Each prompt draws each attribute independently: its own
favourite with probability FAVOURITE, else one of the other values, the k-th rarer by TAIL^k. Shapes are signed
distance functions with y down, antialiased over one pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SIZE = 64
FAVOURITE, TAIL = 0.55, 0.75

PROMPTS = ("a house", "a fish", "a flower in a pot", "a sailing boat", "a tree", "a cat", "a car", "a hot-air balloon")
ATTRIBUTES = {
    "what": PROMPTS,
    "place": ("left", "centre", "right"),
    "size": ("small", "medium", "large"),
    "colour": ("red", "yellow", "green", "blue", "purple"),
    "style": ("flat", "outline", "striped"),
    "background": ("paper", "night", "sunset", "meadow", "sea"),
}
NAMES = tuple(ATTRIBUTES)
COUNTS = tuple(len(values) for values in ATTRIBUTES.values())
# One row for each prompt: the favourite place, size, colour, style and background.
FAVOURITES = torch.tensor(
    [
        [1, 1, 0, 0, 3],
        [0, 0, 1, 2, 4],
        [1, 2, 4, 0, 0],
        [2, 1, 3, 1, 2],
        [0, 2, 2, 0, 3],
        [1, 2, 1, 1, 0],
        [2, 0, 0, 2, 1],
        [1, 1, 4, 2, 2],
    ]
)

_COLOURS = torch.tensor(
    [[0.84, 0.16, 0.15], [0.97, 0.79, 0.14], [0.17, 0.62, 0.24], [0.16, 0.38, 0.86], [0.57, 0.22, 0.69]]
)
_RADIUS = torch.tensor([12.0, 17.0, 23.0])
_SHIFT = torch.tensor([15.0, 13.0, 9.5])  # pixels to the side, by size
_BAND = 0.68  # width of two bands, as a share of the radius
_BROWN, _GREEN, _PALE, _DARK = (0.48, 0.31, 0.18), (0.24, 0.50, 0.20), (0.97, 0.96, 0.90), (0.13, 0.12, 0.16)


def probabilities() -> list[Tensor]:
    """For each attribute after `what`: (prompts, values), the probability of each value under each prompt."""
    tables = []
    for column, name in enumerate(NAMES[1:]):
        count = len(ATTRIBUTES[name])
        tail = TAIL ** torch.arange(count - 1, dtype=torch.float64)
        tail = (1 - FAVOURITE) * tail / tail.sum()
        table = torch.empty(len(PROMPTS), count, dtype=torch.float64)
        for prompt, favourite in enumerate(FAVOURITES[:, column].tolist()):
            others = [(favourite + 1 + k + prompt) % count for k in range(count)]
            others = [value for value in others if value != favourite]
            table[prompt, favourite] = FAVOURITE
            table[prompt, others] = tail
        tables.append(table)
    return tables


def sample_attributes(prompts: Tensor, generator: torch.Generator, uniform: bool = False) -> Tensor:
    """(N,) prompt numbers -> (N, attributes) values, by each prompt's long tail or, for the judge, uniformly."""
    columns = [prompts]
    for table in probabilities():
        weights = torch.ones_like(table) if uniform else table
        columns.append(torch.multinomial(weights[prompts], 1, generator=generator)[:, 0])
    return torch.stack(columns, 1)


def draw(attributes: Tensor, generator: torch.Generator) -> Tensor:
    """(N, attributes) -> (N, 3, SIZE, SIZE) in 0..1, with jitter in pose, colour and scenery."""
    pictures = _backgrounds(attributes[:, 5], generator)
    count = attributes.shape[0]
    jitter = torch.rand(5, count, generator=generator) * 2 - 1
    size = attributes[:, 2]
    radius = _RADIUS[size] * (1 + 0.08 * jitter[0])
    x = SIZE / 2 + (attributes[:, 1] - 1) * _SHIFT[size] + 2 * jitter[1]
    y = SIZE / 2 + 3 * jitter[2] + 2
    angle = 0.07 * jitter[3]
    colour = (_COLOURS[attributes[:, 3]] + 0.05 * (torch.rand(count, 3, generator=generator) * 2 - 1)).clamp(0, 1)
    for what in range(len(PROMPTS)):
        rows = (attributes[:, 0] == what).nonzero()[:, 0]
        if len(rows):
            pictures[rows] = _subject(
                _SUBJECTS[what], pictures[rows], x[rows], y[rows], radius[rows], angle[rows], colour[rows],
                attributes[rows, 4], 1 + 0.06 * jitter[4, rows],
            )  # fmt: skip
    return pictures.clamp(0, 1)


# --- shapes: functions of points p (..., 2) in the subject's frame, about -1..1, giving distances in that frame ---


def _circle(p: Tensor, x: float, y: float, r: float) -> Tensor:
    return (p - p.new_tensor([x, y])).norm(dim=-1) - r


def _ellipse(p: Tensor, x: float, y: float, a: float, b: float) -> Tensor:
    q = p - p.new_tensor([x, y])
    scaled, steep = (q / p.new_tensor([a, b])).norm(dim=-1), (q / p.new_tensor([a * a, b * b])).norm(dim=-1)
    return scaled * (scaled - 1) / steep.clamp(min=1e-6)


def _box(p: Tensor, x: float, y: float, a: float, b: float, rounding: float = 0.0) -> Tensor:
    q = (p - p.new_tensor([x, y])).abs() - p.new_tensor([a - rounding, b - rounding])
    return q.clamp(min=0).norm(dim=-1) + q.amax(-1).clamp(max=0) - rounding


def _polygon(p: Tensor, *corners: tuple[float, float]) -> Tensor:
    """Convex, corners clockwise on the screen."""
    distance = None
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1]):
        length = math.hypot(x1 - x0, y1 - y0)
        side = ((y1 - y0) * (p[..., 0] - x0) - (x1 - x0) * (p[..., 1] - y0)) / length
        distance = side if distance is None else torch.maximum(distance, side)
    return distance


def _line(p: Tensor, x0: float, y0: float, x1: float, y1: float, width: float) -> Tensor:
    start, along = p.new_tensor([x0, y0]), p.new_tensor([x1 - x0, y1 - y0])
    share = (((p - start) * along).sum(-1) / along.square().sum()).clamp(0, 1)
    return (p - start - share[..., None] * along).norm(dim=-1) - width


def _union(*distances: Tensor) -> Tensor:
    return torch.stack(distances).amin(0)


# --- subjects: layers from back to front, each a distance and a tone ("main", "deep": darker main, or a colour) ---

Layers = list[tuple[Tensor, str | tuple[float, float, float]]]


def _house(p: Tensor) -> Layers:
    return [
        (_box(p, 0.42, -0.62, 0.11, 0.27), _BROWN),
        (_box(p, 0, 0.38, 0.68, 0.5), "main"),
        (_polygon(p, (0, -0.92), (0.92, -0.08), (-0.92, -0.08)), "deep"),
        (_box(p, -0.28, 0.56, 0.17, 0.32), _DARK),
        (_box(p, 0.3, 0.36, 0.2, 0.18), _PALE),
    ]


def _fish(p: Tensor) -> Layers:
    return [
        (_polygon(p, (0.38, 0), (0.98, -0.5), (0.98, 0.5)), "deep"),
        (_polygon(p, (-0.3, -0.3), (0.15, -0.72), (0.3, -0.2)), "deep"),
        (_ellipse(p, -0.16, 0, 0.8, 0.5), "main"),
        (_circle(p, -0.56, -0.13, 0.15), _PALE),
        (_circle(p, -0.58, -0.13, 0.08), _DARK),
    ]


def _flower(p: Tensor) -> Layers:
    petals = [
        _circle(p, 0.33 * math.cos(k * math.pi / 3), -0.46 + 0.33 * math.sin(k * math.pi / 3), 0.26) for k in range(6)
    ]
    return [
        (_line(p, 0, -0.3, 0, 0.5, 0.06), _GREEN),
        (_ellipse(p, 0.24, 0.24, 0.22, 0.1), _GREEN),
        (_union(*petals), "main"),
        (_circle(p, 0, -0.46, 0.2), _PALE),
        (_polygon(p, (-0.44, 0.42), (0.44, 0.42), (0.3, 0.98), (-0.3, 0.98)), _BROWN),
    ]


def _boat(p: Tensor) -> Layers:
    return [
        (_line(p, -0.06, -0.9, -0.06, 0.4, 0.05), _BROWN),
        (_polygon(p, (0.04, -0.9), (0.78, 0.22), (0.04, 0.22)), "main"),
        (_polygon(p, (-0.16, -0.6), (-0.16, 0.22), (-0.68, 0.22)), "main"),
        (_polygon(p, (-0.95, 0.36), (0.95, 0.36), (0.6, 0.84), (-0.6, 0.84)), "deep"),
    ]


def _tree(p: Tensor) -> Layers:
    crown = _union(_circle(p, -0.36, -0.16, 0.42), _circle(p, 0.36, -0.16, 0.42), _circle(p, 0, -0.5, 0.46))
    return [(_box(p, 0, 0.56, 0.14, 0.44), _BROWN), (crown, "main")]


def _cat(p: Tensor) -> Layers:
    ears = _union(
        _polygon(p, (-0.72, -0.95), (-0.1, -0.5), (-0.72, 0.05)), _polygon(p, (0.72, -0.95), (0.72, 0.05), (0.1, -0.5))
    )
    eyes = _union(_ellipse(p, -0.32, -0.02, 0.13, 0.18), _ellipse(p, 0.32, -0.02, 0.13, 0.18))
    whiskers = _union(
        *(_line(p, 0.3 * side, 0.34, 0.95 * side, 0.34 + lift, 0.03) for side in (-1, 1) for lift in (-0.1, 0.12))
    )
    return [
        (ears, "deep"),
        (_ellipse(p, 0, 0.1, 0.8, 0.72), "main"),
        (eyes, _DARK),
        (_polygon(p, (-0.12, 0.22), (0.12, 0.22), (0, 0.38)), _PALE),
        (whiskers, _DARK),
    ]


def _car(p: Tensor) -> Layers:
    wheels = _union(_circle(p, -0.5, 0.46, 0.24), _circle(p, 0.5, 0.46, 0.24))
    hubs = _union(_circle(p, -0.5, 0.46, 0.1), _circle(p, 0.5, 0.46, 0.1))
    return [
        (_polygon(p, (-0.4, -0.56), (0.34, -0.56), (0.62, 0.02), (-0.66, 0.02)), "deep"),
        (_polygon(p, (-0.32, -0.42), (-0.04, -0.42), (-0.04, -0.06), (-0.46, -0.06)), _PALE),
        (_polygon(p, (0.06, -0.42), (0.28, -0.42), (0.44, -0.06), (0.06, -0.06)), _PALE),
        (_box(p, 0, 0.2, 0.97, 0.27, 0.12), "main"),
        (wheels, _DARK),
        (hubs, _PALE),
    ]


def _balloon(p: Tensor) -> Layers:
    ropes = _union(_line(p, -0.4, 0.1, -0.16, 0.7, 0.03), _line(p, 0.4, 0.1, 0.16, 0.7, 0.03))
    return [
        (ropes, _DARK),
        (_polygon(p, (-0.5, 0.08), (0.5, 0.08), (0.16, 0.42), (-0.16, 0.42)), "deep"),
        (_ellipse(p, 0, -0.26, 0.68, 0.68), "main"),
        (_box(p, 0, 0.82, 0.2, 0.15, 0.04), _BROWN),
    ]


_SUBJECTS: tuple[Callable[[Tensor], Layers], ...] = (_house, _fish, _flower, _boat, _tree, _cat, _car, _balloon)


def _subject(subject, canvas, x, y, radius, angle, colour, style, aspect) -> Tensor:
    """Paint one subject over (N, 3, SIZE, SIZE); every other argument is (N,) or (N, 3)."""
    v, u = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    right, down = u - x[:, None, None], v - y[:, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    p = torch.stack([(cos * right + sin * down) / aspect[:, None, None], cos * down - sin * right], -1)
    sharp = radius[:, None, None] * _BAND / 5
    stripe = ((p[..., 1] / radius[:, None, None] + 0.17) * (2 * math.pi / _BAND)).cos().mul(sharp).clamp(
        -1, 1
    ) * 0.5 + 0.5
    outline, striped = (style == 1).float()[:, None, None, None], (style == 2).float()[:, None, None, None]
    paper = canvas.new_tensor(_PALE)[None, :, None, None]
    for distance, tone in subject(p / radius[:, None, None, None]):
        distance = (distance * radius[:, None, None])[:, None]
        own = isinstance(tone, str)
        base = colour * (0.66 if tone == "deep" else 1.0) if own else canvas.new_tensor(tone).expand_as(colour)
        base = base[:, :, None, None]
        fill = base
        if own:
            fill = fill + striped * stripe[:, None] * 0.8 * (paper - fill)
        fill = fill + outline * (paper - fill)
        edge = base * 0.55 + outline * (base - base * 0.55)
        width = 0.45 + 0.55 * outline
        canvas = canvas + (0.5 - distance).clamp(0, 1) * (fill - canvas)
        canvas = canvas + (0.5 + width - distance.abs()).clamp(0, 1) * (edge - canvas)
    return canvas


def _backgrounds(kinds: Tensor, generator: torch.Generator) -> Tensor:
    """(N,) background numbers -> (N, 3, SIZE, SIZE); the sun, the horizon and the shade of paper vary."""
    r = torch.rand(3, len(kinds), 1, 1, 1, generator=generator)
    pictures = torch.empty(len(kinds), 3, SIZE, SIZE)
    for number, scene in enumerate((_paper, _night, _sunset, _meadow, _sea)):
        rows = (kinds == number).nonzero()[:, 0]
        pictures[rows] = scene(*r[:, rows]).expand(len(rows), 3, SIZE, SIZE)
    return pictures


_V, _U = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")


def _rgb(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([red, green, blue])[None, :, None, None]


def _mix(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    return a + share * (b - a)


def _disc(x: Tensor | float, y: Tensor | float, radius: float) -> Tensor:
    return (radius + 0.5 - ((_U - x).square() + (_V - y).square()).sqrt()).clamp(0, 1)


def _below(line: Tensor) -> Tensor:
    return (_V - line + 0.5).clamp(0, 1)


def _paper(shade: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return _rgb(0.95, 0.92, 0.84) + 0.03 * (shade * 2 - 1)


def _night(x: Tensor, y: Tensor, _: Tensor) -> Tensor:
    sky = _mix(_rgb(0.05, 0.06, 0.20), _rgb(0.14, 0.15, 0.38), _V / SIZE)
    return _mix(sky, _rgb(0.98, 0.95, 0.75), _disc(8 + 48 * x, 8 + 6 * y, 4.5))


def _sunset(x: Tensor, y: Tensor, height: Tensor) -> Tensor:
    sky = _mix(_rgb(0.98, 0.52, 0.30), _rgb(0.99, 0.80, 0.62), _V / SIZE)
    sky = _mix(sky, _rgb(1.0, 0.93, 0.70), _disc(10 + 44 * x, 12 + 8 * y, 6.5))
    return _mix(sky, _rgb(0.55, 0.28, 0.40), _below(52 + 4 * height))


def _meadow(x: Tensor, y: Tensor, height: Tensor) -> Tensor:
    sky = _mix(_rgb(0.70, 0.87, 0.97), _rgb(0.98, 0.99, 1.0), _disc(8 + 48 * x, 8 + 6 * y, 5.0))
    return _mix(sky, _rgb(0.55, 0.80, 0.36), _below(39 + 4 * height - 3 * (_U / 13).sin()))


def _sea(_: Tensor, __: Tensor, height: Tensor) -> Tensor:
    horizon = 32 + 5 * height
    wave = ((_V - horizon) * 0.6 + 1.2 * (_U * 0.4).sin()).sin().mul(2).sub(0.9).clamp(0, 1)
    water = _mix(_rgb(0.10, 0.50, 0.66), _rgb(0.55, 0.82, 0.88), wave)
    return _mix(_rgb(0.86, 0.94, 0.96), water, _below(horizon))

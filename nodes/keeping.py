"""Keep these, push the rest away: pictures of a set that stay as they are, and the noise that they were made from.

Each run writes the noise that it found to the host's temp folder, under a name made from what is in it. Its pictures
are then kept by their numbers and that name. A run that keeps some copies the file to the output folder, so that the
graph, and the picture that carries it, mean the same after a restart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from . import files
from .checks import shortened
from .latents import FixedNoise, Samples, SetNoise, joined, parts, sizes

ALL_KEPT = "all of them are kept"
FOLDER = "noise"  # in the host's temp and output folders
DIGITS = 16  # of the hash in a name
OF_A_RUN = re.compile(rf"kept_[0-9a-f]{{{DIGITS}}}\{files.SUFFIX}")


def keep_inputs(else_from: str = "the noise that is wired in") -> list[io.Input]:
    """The widgets `keep` and `kept_from`, which `Kept.of` reads. else_from: what the numbers mean pictures of where no
    file is named, for a tooltip."""
    return [
        io.String.Input(
            "keep",
            default="",
            optional=True,
            tooltip="Numbers of the pictures that stay as they are, such as 1, 3. The others move away from them and "
            "from each other. A click on a picture in the node writes it here.",
        ),
        io.String.Input(
            "kept_from",
            default="",
            advanced=True,
            optional=True,
            tooltip="The noise file whose pictures the numbers in keep mean; a click writes it, too. Empty: the "
            f"pictures of {else_from}.",
        ),
    ]


@dataclass(frozen=True)
class Kept:
    """Which pictures of a set stay as they are.

    places: theirs, from 0. noise: what they were made from; None for that of the set. source: the name of its file.
    """

    places: tuple[int, ...] = ()
    noise: FixedNoise | None = None
    source: str = ""

    @classmethod
    def of(cls, keep: str, kept_from: str, total: int) -> Kept:
        """What the widgets say of a set of `total`; raises ValueError where they mean no picture of it."""
        places = tuple(sorted(numbers(keep)))
        if not places:
            return cls()
        if places[-1] >= total:
            there = f"there are {total} pictures" if total > 1 else "there is 1 picture"
            raise ValueError(f"keep is {shortened(keep)}, and {there}: keep some of 1 to {total}.")
        source = kept_from.strip()
        if not source:
            return cls(places)
        noise = read(source)
        if places[-1] >= (held := len(noise.batch_index)):
            raise ValueError(
                f"keep is {shortened(keep)}, and kept_from holds the noise of {held} pictures: keep some "
                f"of 1 to {held}, or clear kept_from."
            )
        return cls(places, noise, source)

    def seed(self, seed: int) -> int:
        """What the noise that a sampler injects is drawn from, so that kept pictures get theirs again."""
        return seed if self.noise is None else self.noise.seed

    def start(self, noise: Samples) -> Samples:
        """The noise (N, C, ...) that a set starts from, with that of the kept pictures in it, never rounded."""
        if self.noise is None:
            return noise
        held, drawn, rows = parts(self.noise.samples), parts(noise), list(self.places)
        if [part.shape[1:] for part in held] != [part.shape[1:] for part in drawn]:
            raise ValueError(
                f"kept_from holds noise for another size ({sizes(self.noise.samples)}; latent_image is of "
                f"{sizes(noise)}): set latent_image to the size of the kept pictures, or clear keep."
            )
        started = [z.to(torch.promote_types(z.dtype, stays.dtype), copy=True) for z, stays in zip(drawn, held)]
        for part, stays in zip(started, held):
            part[rows] = stays[rows].to(part)
        return joined(started, noise)

    def free(self, places: Sequence[int], mask: Tensor | None, like: Tensor) -> Tensor | None:
        """What may move of the samples at these places, for `optimize`. mask: of the latent. like: their noise."""
        moves = [place not in self.places for place in places]
        if all(moves):
            return mask
        free = like.new_tensor(moves).reshape(-1, *[1] * (like.ndim - 1))
        return free if mask is None else mask * free

    def shown(self, file: str, pictures: int) -> dict[str, Any]:
        """What the node in the browser must know of a run to keep more of its pictures; file: of their noise."""
        kept = {"keep": [place + 1 for place in self.places], "kept_from": self.source}
        return {"file": file, "pictures": pictures, **kept}

    @property
    def told(self) -> list[str]:
        """Their numbers, as a line of a report; no line where there are none."""
        return [f"Pictures kept: {self.listed}."] if self.places else []

    @property
    def briefly(self) -> str:
        """Their numbers, for the node, before what else is said there; nothing where there are none."""
        return f"kept {self.listed} · " if self.places else ""

    @property
    def listed(self) -> str:
        """Their numbers."""
        return ", ".join(str(place + 1) for place in self.places)


def numbers(keep: str) -> set[int]:
    """The places that the numbers in a text mean; raises ValueError where one is no number of a picture."""
    words = re.findall(r"[^\s,;]+", keep)
    if not all(word.isdecimal() and int(word) for word in words):
        raise ValueError(f"keep is {shortened(keep)}; write numbers of pictures from 1, such as 1, 3.")
    return {int(word) - 1 for word in words}


def write(noise: FixedNoise) -> str:
    """Writes the noise that a run found to the temp folder; its name, the same for the same noise."""
    digest = hashlib.sha256(str(noise.seed).encode())
    for part in parts(noise.samples):
        digest.update(
            f" {tuple(part.shape)}".encode() + part.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    name = f"kept_{digest.hexdigest()[:DIGITS]}{files.SUFFIX}"
    put(noise, Path(folder_paths.get_temp_directory(), FOLDER, name))
    return name


def put(noise: FixedNoise, path: Path) -> None:
    """Writes a file that is named after what is in it, where it is not there yet."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, noise, {"samples": noise.samples, "batch_index": noise.batch_index})


def read(source: str) -> FixedNoise:
    """The noise in the file of this name: of a run, then it is in the output folder from now on, or any that Load Noise
    lists. Raises ValueError where it is gone, or holds something else."""
    stays = Path(folder_paths.get_output_directory(), FOLDER, source)
    made = Path(folder_paths.get_temp_directory(), FOLDER, source)
    of_a_run = OF_A_RUN.fullmatch(source) is not None
    path = files.located(source) if not of_a_run else stays if stays.is_file() else made
    if not path.is_file():
        raise ValueError(
            f"kept_from {shortened(source)} is gone: clear keep and kept_from, run, and click the pictures again."
        )
    noise = files.read(path)
    if isinstance(noise, SetNoise):
        raise ValueError(f"kept_from {shortened(source)} holds no noise of pictures; clear it, or click a picture.")
    if of_a_run:
        put(noise, stays)
    return noise

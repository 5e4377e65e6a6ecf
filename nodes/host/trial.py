"""What a patched model may be asked: tried, before a gradient or a picture relies on it.

A patch may look at the whole batch, keep what one call computed for the next, or hand it to a function outside the
model. What the network answers, before the host makes a prediction of it, tells the first two: late in a run a
prediction is mostly its input, which hides them. The guided prediction tells the last.
"""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import torch
from torch import Tensor

from ...noise.gradient.draws import Draws
from ...noise.gradient.recompute import same
from .call import ModelCalls

CHUNKS, WHOLE, ONCE = "chunks", "whole", "once"
AMPLIFIED = 100  # guided predictions may lie so many times farther apart than the answers they are made of ...
FARTHEST = 0.1  # ... but not farther than this
UNMIXED = 1e-3  # how far apart, beside two other samples, the same prediction may be: kernels are the same
ERRORS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError)  # of a patch that cannot take a chunk

Predict = Callable[[Tensor, Tensor], Tensor]


def trial(predict: Predict, x: Tensor, sigmas: Tensor, calls: ModelCalls, rewind: Callable[[], None]) -> str:
    """How a session may treat the calls that predict(x, sigma), one guided prediction, makes of the model.

    CHUNKS: make them again, for some samples at a time. WHOLE: make them again, for the whole batch. ONCE: what a call
    has computed is used outside it, so only a graph that is kept is right. x: (B, ...) what a run starts from. rewind:
    has the patches remember nothing. Costs seven predictions, five for a batch of one; one keeps a sample's graph.
    """
    later = sigmas[min(1, len(sigmas) - 1 - int(sigmas[-1] == 0))]
    present, other, draws = x * (later / sigmas[0]), x.flip(-1), Draws(x)

    def ask(past: Tensor, chunk: int | None = None) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The prediction for `present` after one for `past`, and (x, answer) of the calls it takes."""
        draws.again()
        rewind()
        predict(past, sigmas[0])
        with calls.listening(chunk) as heard:
            return predict(present, later), heard

    with torch.no_grad(), draws:
        _, after_x = ask(x)
        guided, whole = ask(other)
        if not all(same(a, b) for (x_a, a), (x_b, b) in zip(after_x, whole, strict=False) if same(x_a, x_b)):
            return ONCE
        with torch.enable_grad(), calls.listening(leak=True):
            if predict(present[:1], later).requires_grad:
                return ONCE
        if len(x) == 1:
            return CHUNKS
        try:
            apart, chunked = ask(other, chunk=1)
        except ERRORS as error:
            if comfy.model_management.is_oom(error):
                raise
            return WHOLE
        answers = [(b, a) for (_, a), (_, b) in zip(whole, chunked, strict=False)]
        if len(whole) != len(chunked) or not all(same(*pair) for pair in answers):
            return WHOLE
        rounding = max((_distance(*pair) for pair in answers), default=0.0)
        allowed = min(max(AMPLIFIED * rounding, 1e-5), FARTHEST)
        return CHUNKS if _distance(apart - present, guided - present) <= allowed else WHOLE


def mixes(predict: Predict, x: Tensor, sigma: Tensor, alike: bool, rewind: Callable[[], None]) -> bool:
    """Whether the guided prediction for a sample depends on the samples beside it, or on its place if all are `alike`.

    x: (B, ...) what a run starts from; three predictions for two samples are made.
    """
    sample, draws = x[:1], Draws(x)

    def ask(*samples: Tensor) -> Tensor:
        draws.again()
        rewind()
        return predict(torch.cat(samples), sigma)

    with torch.no_grad(), draws:
        expected = ask(sample, sample.flip(-1))[:1]
        answers = [ask(sample, -0.5 * sample)[:1], *([ask(sample.flip(-1), sample)[1:]] if alike else [])]
    return any(_distance(answer - sample, expected - sample) > UNMIXED for answer in answers)


def _distance(answer: Tensor, expected: Tensor) -> float:
    expected = expected.float()
    return float((answer.float() - expected).norm() / expected.norm().clamp(min=1e-30))

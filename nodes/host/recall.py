"""What the model predicted in a run that was stopped, for the run of the same noise that goes on to the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .sampling import Sample, add_wrapper


@dataclass
class Recall:
    """For `through`, of two runs of one noise: what the model predicted in the first it is not asked for in the second.

    used: how many predictions the second took from the first. Where it asks for another, the model answers.
    """

    known: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    used: int | None = None  # None in the first run

    def __call__(self, sample: Sample, model_wrap: Any, *given: Any) -> Tensor:
        add_wrapper(WrappersMP.PREDICT_NOISE, self.predict_noise, model_wrap.model_options)
        return sample(model_wrap, *given)

    def predict_noise(
        self, executor: Callable[..., Tensor], x: Tensor, sigma: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        if self.used is None:
            answer = executor(x, sigma, *args, **kwargs)
            self.known.append((x.clone(), sigma.clone(), answer.clone()))
            return answer
        if self.used < len(self.known):
            known, at, answer = self.known[self.used]
            if known.equal(x) and at.equal(sigma):
                self.used += 1
                return answer.clone()
            self.known.clear()
        return executor(x, sigma, *args, **kwargs)

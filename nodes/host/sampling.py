"""A sampling run of the host, to be made again and again: all that SamplerCustomAdvanced is wired to but the noise."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...noise.rows import RowsOfWhole
from .foresight import calls, resumes
from .members import fixed_randomness, mask_of_members, of_members, random_state, varied
from .places import ROWS, WHOLE, placing
from .stand_in import Trial
from .wires import latent_image, refuse_parts, sampler_name, through

KEY = "noise_optimize"
Sample = Callable[..., Tensor]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Sampling:
    """sampling(noise) is `guider.sample` of the host, from its beginning to its end, so whatever is wired is as it is.

    members: (places, total): the run is of the samples at these places of a set of total. differ: whether prompts,
    masks or latents of the set do. state: torch's random state at the start of a run. in_rows: whether the sampler is
    to draw the rows of a larger batch's noise.
    """

    guider: Any
    sampler: Any
    sigmas: Tensor
    latent: Tensor
    mask: Tensor | None
    seed: int
    members: tuple[list[int], int]
    differ: bool
    state: dict[str, Tensor]
    in_rows: bool = False

    @classmethod
    def of(
        cls,
        guider: Any,
        sampler: Any,
        sigmas: Tensor,
        latent: dict[str, Any],
        seed: int,
        members: tuple[Sequence[int], int] | None,
        beside: Sequence[Any],
    ) -> Sampling:
        """The run of these wires. members: None for all samples of latent. beside: ModelPatchers to load, too.

        Raises ValueError where a part of a set cannot be sampled without the rest.
        """
        samples, mask = latent_image(guider, latent), latent.get("noise_mask")
        places, total = (list(members[0]), members[1]) if members else (list(range(len(samples))), len(samples))
        state = random_state(samples, total, seed, latent.get("batch_index"))
        samples = comfy.utils.repeat_to_batch_size(samples, total)
        differ = varied(guider.original_conds, samples, mask)
        guider, samples = copy.copy(guider), samples[places]
        guider.original_conds = {
            name: [of_members(cond, places, total) for cond in conds] for name, conds in guider.original_conds.items()
        }
        for cond in (conds[0] for conds in guider.original_conds.values() if conds):
            cond["additional_models"] = [*cond.get("additional_models", []), *beside]
        mask = mask_of_members(mask, samples, places, total)
        sampling = cls(guider, sampler, sigmas, samples, mask, seed, (places, total), differ, state)
        return replace(sampling, in_rows=sampling.place() == ROWS) if sampling.part else sampling

    def __call__(self, noise: Tensor, sampler: Any, guider: Any = None) -> Tensor:
        """The latents, float32, on the model's device. sampler, guider: what stands in for those that are wired."""
        sampler = through(sampler, self._rows) if self.in_rows else sampler
        mask = None if self.mask is None else self.mask.clone()
        return copy.copy(self.guider if guider is None else guider).sample(
            noise.cpu().clone(), self.latent.clone(), sampler, self.sigmas.clone(), mask, listen, True, self.seed
        )

    @contextlib.contextmanager
    def randomness(self) -> Iterator[Callable[[], None]]:
        """torch's random state as a run finds it; yields what brings it back to this start."""
        with fixed_randomness(self.state, self.guider.model_patcher.load_device) as start:
            yield start

    @property
    def part(self) -> bool:
        """Whether the run is not of a whole set."""
        return self.members[0] != list(range(self.members[1]))

    def place(self) -> str:
        """What a picture owes to its place in the batch (places.py); raises ValueError where no part can be made."""
        refuse_parts(self.guider)
        found = self._tried(placing)
        if found == WHOLE:
            raise ValueError(
                f"The sampler {sampler_name(self.sampler)} looks at the batch as a whole, so that pictures of a set "
                "cannot be made apart: raise the batch of latent_image to the whole set, or wire another sampler, such "
                "as euler."
            )
        return found

    def places_matter(self) -> bool:
        return self.differ or (self.in_rows if self.part else self.place() == ROWS)

    def resumable(self, stops: Sequence[int]) -> bool:
        return self._tried(functools.partial(resumes, stops))

    def calls(self, until: int) -> int:
        return self._tried(functools.partial(calls, until))

    def _tried(self, find: Callable[[Trial], T]) -> T:
        """What is found about the sampler, with what it is given in a run."""
        found: list[T] = []

        def instead(_: Any, guider: Any, sigmas: Any, extra: Any, callback: Any, noise: Tensor, *given: Any) -> Tensor:
            latent, mask = given[:2]
            found.append(find(Trial(self.sampler, guider, sigmas, extra, noise, latent, mask, start)))
            return noise

        with torch.inference_mode(), self.randomness() as start:
            replace(self, in_rows=False)(torch.zeros_like(self.latent), through(self.sampler, instead))
        return found[0]

    def _rows(self, sample: Sample, model_wrap: Any, *args: Any, **kwargs: Any) -> Tensor:
        rows = RowsOfWhole(*self.members, dims=min(self.latent.ndim, 4))

        def predict_noise(executor: Sample, *args: Any, **kwargs: Any) -> Tensor:
            with rows.paused():
                return executor(*args, **kwargs)

        add_wrapper(WrappersMP.PREDICT_NOISE, predict_noise, model_wrap.model_options)
        with rows:
            return sample(model_wrap, *args, **kwargs)


def add_wrapper(kind: str, wrapper: Callable[..., Any], model_options: dict[str, Any]) -> None:
    comfy.patcher_extension.add_wrapper_with_key(kind, KEY, wrapper, model_options, is_model_options=True)


def listen(step: int, x0: Tensor, x: Tensor, steps: int) -> None:
    """What is called after each step: here Cancel is heard."""
    comfy.model_management.throw_exception_if_processing_interrupted()

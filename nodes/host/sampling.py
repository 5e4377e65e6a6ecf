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
from .members import Whole, fixed_randomness, mask_of_members, of_members, random_state, varied
from .patches import mixes, patches_of
from .places import ROWS, WHOLE, placing
from .stand_in import Trial
from .wires import latent_image, refuse_parts, sampler_name, through

KEY = "noise_optimize"
PARTLESS = (
    "{} looks at the batch as a whole, so that pictures of a set cannot be made apart: raise the batch of latent_image "
    "to the whole set, or {}."
)
Sample = Callable[..., Tensor]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Sampling:
    """sampling(noise) is `guider.sample` of the host, from its beginning to its end, so whatever is wired is as it is.

    places: the run is of the samples at these places of the whole. differ: whether its prompts, masks or latents do.
    state: torch's random state at the start of a run. patches: who has patched the model, for a message. in_rows:
    whether the sampler is to draw the rows of a larger batch's noise.
    """

    guider: Any
    sampler: Any
    sigmas: Tensor
    latent: Tensor
    mask: Tensor | None
    seed: int
    places: list[int]
    whole: Whole
    differ: bool
    state: dict[str, Tensor]
    patches: str
    in_rows: bool = False

    @classmethod
    def of(
        cls,
        guider: Any,
        sampler: Any,
        sigmas: Tensor,
        latent: dict[str, Any],
        seed: int,
        members: tuple[Sequence[int], int | Whole] | None,
        beside: Sequence[Any],
    ) -> Sampling:
        """The run of these wires. members: None for all samples of latent. beside: ModelPatchers to load, too.

        Raises ValueError where a part of a set cannot be sampled without the rest.
        """
        samples, mask = latent_image(guider, latent), latent.get("noise_mask")
        places, whole = members or (range(len(samples)), len(samples))
        places, whole = list(places), whole if isinstance(whole, Whole) else Whole(whole)
        total = whole.total
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
        patches = patches_of(guider)
        sampling = cls(guider, sampler, sigmas, samples, mask, seed, places, whole, differ, state, patches)
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
        return self.places != list(range(self.whole.total))

    def place(self) -> str:
        """What a picture owes to its place in the batch (places.py); raises ValueError where no part can be made."""
        if self.whole.owed is None:
            refuse_parts(self.guider)
            owed = self._tried(placing)
            if owed == WHOLE:
                name = f"The sampler {sampler_name(self.sampler)}"
                raise ValueError(PARTLESS.format(name, "wire another sampler, such as euler"))
            if self.patches and self._mixed():
                name = f"A patch on the model ({self.patches})"
                raise ValueError(PARTLESS.format(name, "take the patch off the model wire"))
            self.whole.owed = owed
        return self.whole.owed

    def places_matter(self) -> bool:
        injected = self.place() == ROWS
        return self.differ or injected

    def resumable(self, stops: Sequence[int]) -> bool:
        """Only without patches: what they keep from step to step would be that of other samples."""
        return not self.patches and self._tried(functools.partial(resumes, stops))

    def _mixed(self) -> bool:
        """Whether a patch looks at more than one sample at once: found with two like the first, sampled by euler."""
        two, mask = comfy.utils.repeat_to_batch_size(self.latent[:1], 2), self.mask
        mask = mask[:1] if mask is not None and mask.ndim > 2 else mask
        pair, euler = replace(self, latent=two, mask=mask, in_rows=False), comfy.samplers.sampler_object("euler")

        def run(noise: Tensor) -> Tensor:
            with torch.inference_mode(), self.randomness():
                return pair(noise, euler)

        noise = torch.randn(two.shape, generator=torch.Generator().manual_seed(0))
        return mixes(run, noise, not self.differ)

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
        rows = RowsOfWhole(self.places, self.whole.total, dims=min(self.latent.ndim, 4))

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

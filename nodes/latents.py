"""All that is known about LATENT and NOISE: their sizes, and the NOISE objects of this pack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import comfy.sample
import comfy.utils
import torch
from torch import Tensor

from ..noise.coloured import Spectrum, colour
from ..noise.files import PRECISIONS
from ..noise.patterns import NoiseSet

Samples: TypeAlias = Any  # a Tensor, or several in one that calls itself nested as torch does (a video and its sound)


def parts(samples: Samples) -> list[Tensor]:
    """The tensors of a latent: one, or several where it is nested (a video and its sound)."""
    return list(samples.unbind()) if samples.is_nested else [samples]


def batch_size(latent: dict[str, Any]) -> int:
    """How many samples a LATENT holds."""
    return len(parts(latent["samples"])[0])


def joined(tensors: list[Tensor], like: Samples) -> Samples:
    """The opposite of `parts`."""
    return type(like)(tensors) if like.is_nested else tensors[0]


def sizes(samples: Samples) -> str:
    """Batch and size of a latent for a message, e.g. "2 of 16 x 64 x 64"."""
    return " and ".join(f"{t.shape[0]} of {' x '.join(map(str, t.shape[1:]))}" for t in parts(samples))


def check_latent(latent: Any) -> Samples:
    """The samples of a LATENT; raises ValueError with one sentence where noise cannot be made for them."""
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if not hasattr(samples, "is_nested"):
        raise ValueError("latent_image gets no latent; wire an Empty Latent Image, VAE Encode or another LATENT.")
    for part in parts(samples):
        if not 3 <= part.ndim <= 5 or 0 in part.shape or part.dtype not in PRECISIONS:
            raise ValueError(
                f"latent_image holds {sizes(samples)} ({part.dtype}), for which there is no noise; "
                "wire a latent of an image, a video or sound that is not empty."
            )
    index, count = latent.get("batch_index"), len(parts(samples)[0])
    if index is not None and not (is_index(index) and len(index) == count):
        raise ValueError(
            f"latent_image says that its {count} samples are numbers {index} of their batch (batch_index), which is no "
            "number from 0 for each; wire a latent of which it says the number of each sample, or nothing."
        )
    mask = latent.get("noise_mask")
    if mask is not None and not (isinstance(mask, Tensor) and mask.numel() and mask.is_floating_point()):
        raise ValueError("latent_image has a mask (noise_mask) without values; paint one, or take it off.")
    return samples


def is_index(index: Any) -> bool:
    """Whether it can be the batch_index of a LATENT: numbers of samples, from 0."""
    return isinstance(index, list | tuple) and all(isinstance(i, Integral) and int(i) >= 0 for i in index)


def filled(latent: dict[str, Any], samples: Samples) -> dict[str, Any]:
    """A LATENT with these samples, without the host's notes in an empty one about the size that it stands for."""
    kept = {name: value for name, value in latent.items() if not name.startswith("downscale_ratio_")}
    return {**kept, "samples": samples}


def of_size(latent: dict[str, Any], count: int) -> dict[str, Any]:
    """A LATENT of so many samples: the first ones, or all of them again and again, as Repeat Latent Batch gives."""
    if count == batch_size(latent):
        return latent
    samples = latent["samples"]
    repeated = joined([comfy.utils.repeat_to_batch_size(part, count) for part in parts(samples)], samples)
    sized = {**latent, "samples": repeated}
    if (index := latent.get("batch_index")) is not None:
        further = max(index) - min(index) + 1
        sized["batch_index"] = [index[i % len(index)] + i // len(index) * further for i in range(count)]
    return sized


def drawn(latent: dict[str, Any], seed: int, made: Callable[[int, Tensor], Tensor]) -> Samples:
    """The white noise of core's Random Noise for a LATENT, on the CPU, after made(number, part) of each of its parts.

    Parts are made in float32, then have the latent's precision. Leaves torch's random state as Random Noise does, for
    samplers and patches that draw from it.
    """
    samples = check_latent(latent)
    single = [torch.empty(part.shape, dtype=torch.float32, device="meta") for part in parts(samples)]
    white = parts(comfy.sample.prepare_noise(joined(single, samples), seed, latent.get("batch_index")))
    return joined([made(i, white[i]).to(part.dtype) for i, part in enumerate(parts(samples))], samples)


class ColouredNoise:
    """NOISE: the white noise of core's Random Noise for `seed`, filtered to `spectrum`."""

    def __init__(self, seed: int, spectrum: Spectrum) -> None:
        self.seed = seed
        self.spectrum = spectrum

    def generate_noise(self, latent: dict[str, Any]) -> Samples:
        """The noise for a latent, on the CPU in the latent's precision."""
        return drawn(latent, self.seed, lambda _, white: colour(white, self.spectrum))


BY_SEED, IN_ORDER = "by seed", "in order"


class SetNoise:
    """NOISE: the white noise of core's Random Noise for `seed` with patterns of a noise set in it.

    strength: 0 is Random Noise bit for bit, 1 the set. pattern: the number of one, from 0, for all pictures; BY_SEED:
    picture i of seed s takes the next pattern after that of picture i of seed s - 1; IN_ORDER: whatever the seed is,
    picture i takes the i-th in the order of the set.
    """

    def __init__(self, found: NoiseSet, seed: int, strength: float = 1.0, pattern: int | str = BY_SEED) -> None:
        self.found, self.seed, self.strength, self.pattern = found, seed, strength, pattern

    def generate_noise(self, latent: dict[str, Any]) -> Samples:
        """The noise for a latent of any size, on the CPU in its precision."""
        return drawn(latent, self.seed, lambda part, white: self.made(part, white, latent.get("batch_index")))

    def made(self, part: int, white: Tensor, index: Sequence[int] | None = None) -> Tensor:
        """White noise of the first part of a latent with patterns in it; sound beside a video stays white.

        index: which pictures of a batch these are; the first ones, where it is not said.
        """
        index = [int(i) for i in index or range(len(white))]
        return white if part else self.found.applied(white, self.numbers(index), self.strength)

    def numbers(self, index: Sequence[int]) -> list[int]:
        """The pattern of each picture of a batch."""
        if isinstance(self.pattern, int):
            return [self.pattern] * len(index)
        return self.found.numbers(self.seed if self.pattern == BY_SEED else 0, index)


class FixedNoise:
    """NOISE: given tensors, such as those that Noise Optimize found or that Load Noise read.

    samples: (B, C, ...). seed: for the noise that a sampler injects itself. batch_index: which samples of a larger
    batch these are, where the latent they were made for says so. spectrum, scores, settings: kept by Save Noise.
    """

    def __init__(
        self,
        samples: Samples,
        seed: int = 0,
        settings: dict[str, Any] | None = None,
        scores: dict[str, Any] | None = None,
        spectrum: dict[str, Any] | None = None,
        batch_index: list[int] | None = None,
    ) -> None:
        self.samples = samples
        self.seed = seed
        self.settings = settings or {}
        self.scores = scores or {}
        self.spectrum = spectrum
        self.batch_index = list(batch_index) if batch_index is not None else list(range(len(parts(samples)[0])))

    def generate_noise(self, latent: dict[str, Any]) -> Samples:
        """The given noise for a latent of its size: the samples that `batch_index` names, else as many as it has.

        Leaves torch's random state as Random Noise does, for samplers and patches that draw from it.
        """
        wanted, held = parts(latent["samples"]), parts(self.samples)
        if [t.shape[1:] for t in wanted] != [t.shape[1:] for t in held]:
            raise ValueError(
                f"noise was made for latents of another size ({sizes(self.samples)}; latent_image holds "
                f"{sizes(latent['samples'])}); set latent_image to the size of the noise."
            )
        rows = self.rows(latent.get("batch_index"), len(wanted[0]))
        comfy.sample.prepare_noise(latent["samples"], self.seed, latent.get("batch_index"))
        # never rounded: samplers compute in float32 whatever the latent is in
        given = [h[rows].to(torch.promote_types(h.dtype, w.dtype)) for h, w in zip(held, wanted)]
        return joined(given, latent["samples"])

    def rows(self, index: Sequence[int] | None, count: int) -> list[int]:
        """Where the samples are that a latent asks for by its batch_index, or the first `count`."""
        held = self.batch_index
        if index is None or list(index) == held:
            if count <= len(held):
                return list(range(count))
        elif set(index) <= set(held):
            if all(held.count(i) == 1 for i in index):
                return [held.index(i) for i in index]
            raise ValueError(
                f"noise holds several samples of one number in its batch ({held}), and latent_image asks for "
                f"{list(index)}; wire the latent that this noise was made for."
            )
        raise ValueError(
            f"noise holds the samples {held} of its batch, and latent_image asks for "
            f"{count if index is None else list(index)}; set the batch of latent_image to samples it holds."
        )


def noise_for(noise: Any, latent: dict[str, Any]) -> Samples:
    """The noise of any NOISE for a latent, on the CPU.

    An empty latent stands for any latent of its batch, as it does in the host's samplers: given noise keeps its size.
    """
    samples = check_latent(latent)
    if isinstance(noise, FixedNoise) and not samples.is_nested and not noise.samples.is_nested and not samples.any():
        latent = {**latent, "samples": noise.samples.new_zeros(len(samples), *noise.samples.shape[1:])}
    found = noise.generate_noise(latent)
    if not isinstance(found, type(latent["samples"])) or sizes(found) != sizes(latent["samples"]):
        given = sizes(found) if hasattr(found, "is_nested") else f"a {type(found).__name__}"
        raise ValueError(
            f"noise gives {given} for a latent_image of {sizes(latent['samples'])}; wire a NOISE that follows the size "
            "of latent_image, such as Random Noise."
        )
    if not all(part.dtype in PRECISIONS and part.isfinite().all() for part in parts(found)):
        raise ValueError("noise holds values that are no finite decimal numbers; make it anew.")
    return joined([part.cpu() for part in parts(found)], found)

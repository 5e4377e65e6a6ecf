"""What the nodes see of ComfyUI: a session in which a guider samples again and again, plainly or with a gradient.

    run_in_session(guider, sampler, sigmas, latent, body)    body(session)
    session.generate(noise)                                  latents, as SamplerCustomAdvanced gives them
    session.predicted(noise, until)                          latents, as the model foresees them after some steps
    session.calls(until)                                     how often a run asks the model until then, or in all
    session.decode(latents)                                  pictures, as VAE Decode gives them
    session.batch(noise)                                     both, for objectives
    session.preview(latents)                                 small pictures, as the host shows them while it samples
    session.device, session.shape                            where all these tensors lie, and the shape of the noise
    session.memory                                           how gradients are taken, and what is known of their size
    session.mask                                             where the sampler may change the latent, or None for all

Each `generate` is a sampling run of the host from its beginning to its end (sampling.py), whoever has wrapped whatever
around it. One with a gradient is the same run, over a sampler without what cuts the gradient, in a host that keeps what
the graph needs later (gradients.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor

from ...noise.gradient.inference import normal
from ...noise.gradient.recompute import RecomputationError
from ...objectives.batch import Batch
from .decoder import Decoder
from .foresight import Begun, Foreseen, Leg, stopped
from .gradients import Gradients
from .kernels import cannot_differentiate
from .members import Whole
from .memory import Memory
from .recall import Recall
from .sampling import Sampling
from .wires import GRADIENT_FREE, DifferentiableSampler, refuse_vae, refuse_wires, resident, sampler_name, through

T = TypeVar("T")


def run_in_session(
    guider: comfy.samplers.CFGGuider,
    sampler: comfy.samplers.Sampler,
    sigmas: Tensor,
    latent: dict[str, Any],
    body: Callable[[Session], T],
    *,
    vae: Any = None,
    seed: int,
    memory: str = "auto",
    gradient_steps: int = 0,
    members: tuple[Sequence[int], int | Whole] | None = None,
    networks: Sequence[Any] = (),
) -> T:
    """body(session); everything is put back on the way out, however that is.

    latent: a LATENT. seed: what the sampler's own noise is drawn from; the same noise in each generate.
    members: (places, total): the session computes the samples at these places of a set of total, with their prompts,
        masks and injected noise; a place may come more than once. None: all samples of latent. See places.py. With a
        `Whole` for total, what is tried of the set is tried once for all its parts.
    networks: ModelPatchers to keep loaded beside model and VAE, and modules whose weights the graph will use.
    A DifferentiableSampler brings its own memory and gradient_steps.
    """
    sampler = DifferentiableSampler.of(sampler, memory, gradient_steps)
    refuse_wires(guider, sigmas)
    beside = [p for p in (getattr(vae, "patcher", None), *networks) if hasattr(p, "load_device")]
    with torch.inference_mode(False):
        sampling = Sampling.of(guider, sampler.sampler, sigmas, latent, seed, members, beside)
        if vae is not None:
            refuse_vae(vae, sampling.latent)
        session = Session(sampling, sampler, vae, networks)
        try:
            return body(session)
        except RecomputationError as error:
            raise RuntimeError(
                f"The model{f' ({sampling.patches})' if sampling.patches else ''} answers differently when it is asked "
                "twice, so it has no exact gradient: take its patches off the model wire, set memory to fast, "
                f"{GRADIENT_FREE}"
            ) from error
        except (RuntimeError, UserWarning) as error:
            if session.differentiating and (reason := cannot_differentiate(error)):
                raise RuntimeError(
                    f"The model or the objective cannot be differentiated ({reason}): "
                    f"wire a model that is neither quantized nor compiled, {GRADIENT_FREE}"
                ) from error
            raise
        finally:
            session.close()


class Session:
    """What body gets."""

    def __init__(self, sampling: Sampling, settings: DifferentiableSampler, vae: Any, networks: Sequence[Any]) -> None:
        self.device: torch.device = sampling.guider.model_patcher.load_device
        self.shape = tuple(sampling.latent.shape)
        self.memory = Memory(settings.memory)
        self.differentiating = False
        self._sampling, self._settings, self._vae, self._networks = sampling, settings, vae, networks
        self._decoder = None if vae is None else Decoder(vae, self.memory)

    @cached_property
    def _gradients(self) -> Gradients:
        roots = list(self._networks)
        if self._decoder is not None:
            self._decoder.network = resident(self._vae.patcher).model
            roots += [self._decoder.network, vars(self._vae)]
        return Gradients(self._sampling, roots, self.memory, self._settings.gradient_steps)

    def generate(self, noise: Tensor, recall: Recall | None = None) -> Tensor:
        """The sampled latents (B, C, ...) of noise of that shape, float32, as SamplerCustomAdvanced gives them.

        Differentiable where noise asks for a gradient and grad mode is on; else bit-identical to the host's.
        recall: what `predicted` was given for this noise, so that the model is not asked the same again.
        """
        if tuple(noise.shape) != self.shape:
            raise ValueError(f"The noise is {tuple(noise.shape)}, the latent_image {self.shape}; give both one size.")
        self.differentiating = torch.is_grad_enabled() and noise.requires_grad
        if self.differentiating:
            return self._gradients(noise)
        sampler = self._sampling.sampler
        return self._plain(noise, sampler if recall is None else through(sampler, recall.second))

    def predicted(
        self, noise: Tensor, until: int, begun: Begun | None = None, recall: Recall | None = None
    ) -> Foreseen:
        """What the model foresees of noise (B, C, ...) at step `until`, without the steps after it.

        Differentiable where noise asks for a gradient and grad mode is on, through all of these steps.
        begun: where the run stands already; for a sampler that is `resumable`, which can then go on again.
        recall: keeps what the model predicts, for `generate`.
        """
        self.differentiating = torch.is_grad_enabled() and noise.requires_grad
        if self.differentiating:
            return Foreseen(self._gradients(noise, until if until < self.steps else None))
        sampler = self._sampling.sampler
        if recall is not None:
            sampler = through(sampler, recall.first)
        if begun is not None:
            leg = Leg(begun, until)
            latents = self._plain(noise, through(sampler, leg))
            return Foreseen(latents, leg.begun)
        if until < self.steps:
            sampler = through(sampler, stopped(until, sampler_name(sampler)))
        return Foreseen(self._plain(noise, sampler))

    def recalls(self) -> bool:
        """Whether the model may be spared what it has answered already; patches may count on being asked."""
        return not self._sampling.patches

    def calls(self, until: int | None = None) -> int:
        """How often a run asks the model for a prediction, in all or until its step `until`."""
        return self._sampling.calls(self.steps if until is None else until)

    def places_matter(self) -> bool:
        """Whether a picture depends on its place in the batch; a search then keeps one candidate for each place."""
        return self._sampling.places_matter()

    def resumable(self, stops: Sequence[int]) -> bool:
        """Whether sampling can stop after these steps and go on later as if it had not (foresight.py)."""
        return self._sampling.resumable(stops)

    @property
    def steps(self) -> int:
        return len(self._sampling.sigmas) - 1

    @property
    def mask(self) -> Tensor | None:
        """(B, C, ...) 0 where latent_image stays as it is, up to 1 where the sampler is free; None: free everywhere."""
        mask = self._sampling.mask
        return None if mask is None else comfy.sampler_helpers.prepare_mask(mask, self.shape, self.device)

    def decode(self, latents: Tensor) -> Tensor:
        """The pictures (B, 3, H, W) in 0..1 of latents, as VAE Decode gives them; of a video the middle frame."""
        if self._decoder is None:
            raise ValueError("Pictures are needed: wire a VAE to vae.")
        return self._decoder(latents).to(self.device)

    def batch(self, noise: Tensor, pictures: bool, until: int | None = None, recall: Recall | None = None) -> Batch:
        """What the sampler makes of noise (B, C, ...), for objectives; pictures: whether it is decoded, too.

        until: after how many steps to take what the model foresees instead; None: all of them.
        recall: as in `predicted` or `generate`.
        """
        if until is None:
            latents = self.generate(noise, recall)
        else:
            latents = self.predicted(noise, until, recall=recall).latents
        return Batch(latents, self.decode(latents) if pictures else None)

    def preview(self, latents: Tensor) -> list[Any]:
        """A small PIL picture of each sample of latents, by the host's own latent preview; [] where it has none."""
        import latent_preview

        model = self._sampling.guider.model_patcher.model
        previewer = latent_preview.get_previewer(self.device, model.latent_format)
        if previewer is None:
            return []
        with torch.no_grad():
            x0 = model.process_latent_in(latents.detach().to(self.device))
            return [previewer.decode_latent_to_preview_image("JPEG", x0[i : i + 1])[1] for i in range(len(x0))]

    def close(self) -> None:
        """Puts the host back; `run_in_session` calls it."""
        if "_gradients" in vars(self):
            self._gradients.close()

    def _plain(self, noise: Tensor, sampler: Any) -> Tensor:
        """A run without gradient, as the host makes it: in inference mode."""
        if "_gradients" in vars(self):
            self._gradients.end_run()
        with torch.inference_mode(), self._sampling.randomness():
            latents = self._sampling(noise, sampler)
        return normal(latents)

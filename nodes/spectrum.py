"""Noise Spectrum: the power of noise over spatial frequency, as a plot and as the shares of three bands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..noise.spectrum import band_shares, frequencies, radial_spectrum, spatial_size
from .latents import noise_for, sizes
from .node import Node
from .plots import COLOURS, GREY, figure_to_image, label_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BANDS = ("low", "mid", "high")
FLOOR = 1e-4  # of white noise's power: what is drawn for frequencies without power


class NoiseSpectrum(Node):
    """Radial power spectrum of noise, with the shares of the low, mid and high third."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeSpectrum",
            display_name="Noise Spectrum",
            category="noise optimize/noise",
            description=(
                "Where in frequency the power of noise lies, next to a second noise if one is wired: for example what "
                "Noise Optimize changed. White noise is flat at 0 dB."
            ),
            search_aliases=["power spectrum", "fft", "frequency", "noise analysis", "radial spectrum"],
            inputs=[
                io.Noise.Input("noise", tooltip="The noise to look at."),
                io.Latent.Input("latent_image", tooltip="The latent that gives size and batch."),
                io.Noise.Input("reference", optional=True, tooltip="A second noise to compare with."),
                io.Int.Input(
                    "sample",
                    default=-1,
                    min=-1,
                    max=4095,
                    optional=True,
                    tooltip="The sample of the batch to show, from 0; -1 is the mean over the batch.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="plot", tooltip="Power over radial frequency, in dB above white noise."),
                io.Float.Output(display_name="low", tooltip="Share of the power in the lowest third of frequencies."),
                io.Float.Output(display_name="mid", tooltip="Share of the power in the middle third of frequencies."),
                io.Float.Output(display_name="high", tooltip="Share of the power in the highest third of frequencies."),
            ],
        )

    @classmethod
    def execute(
        cls, noise: Any, latent_image: dict[str, Any], reference: Any = None, sample: int = -1
    ) -> io.NodeOutput:
        shown = chosen("noise", noise, latent_image, sample)
        compared = None if reference is None else chosen("reference", reference, latent_image, sample)
        return io.NodeOutput(plot(shown, compared, sample), *band_shares(shown).mean(0).tolist())


def chosen(name: str, noise: Any, latent: dict[str, Any], sample: int) -> Tensor:
    """(B, ...) what a NOISE input gives for the latent: one sample, or the batch for -1."""
    samples = noise_for(noise, latent)
    if samples.is_nested:
        raise ValueError(
            f"{name} has several parts ({sizes(samples)}); wire the latent of one of them as latent_image."
        )
    if sample >= len(samples):
        raise ValueError(
            f"sample is {sample} and {name} holds {len(samples)}; set sample to {len(samples) - 1} or less."
        )
    return samples if sample < 0 else samples[sample : sample + 1]


def plot(noise: Tensor, reference: Tensor | None, sample: int) -> Tensor:
    """(1, H, W, 3) radial spectra in dB above white noise; with a reference, their difference beneath."""
    frequency, spectrum = decibels(noise)
    shares = 100 * band_shares(noise).mean(0)
    figure = new_figure()
    which = f"sample {sample}" if sample >= 0 else f"mean of {len(noise)}" if len(noise) > 1 else "one sample"
    title = f"Noise spectrum, {' x '.join(map(str, noise.shape[1:]))}, {which}"
    x = f"{'spatial ' if noise.ndim > 3 else ''}frequency (cycles per latent pixel)"
    captions = [f"{band}\n{share:.1f} %" for band, share in zip(BANDS, shares)]
    if reference is None:
        axes = label_axes(figure.subplots(), title, x, "power (dB, white = 0)")
    else:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        label_axes(axes, title, "", "power (dB, white = 0)")
        other_frequency, other = decibels(reference)
        axes.plot(other_frequency, other, color=COLOURS[1], linewidth=2.5, linestyle="--", label="reference")
        if len(other) == len(spectrum):
            label_axes(below, "", x, "change (dB)")
            below.axhline(0, color=GREY, linewidth=1)
            below.plot(frequency, spectrum - other, color=COLOURS[2], linewidth=2.5, marker=marker(frequency))
        gained = shares - 100 * band_shares(reference).mean(0)
        captions = [f"{caption} ({more:+.1f})" for caption, more in zip(captions, gained)]
    axes.plot(frequency, spectrum, color=COLOURS[0], linewidth=2.5, marker=marker(frequency), label="noise")
    axes.axhline(0, color=GREY, linewidth=1.5, linestyle=":", label="white")
    axes.legend(fontsize=14, loc="lower left")
    mark_bands(figure.axes, float(frequencies(spatial_size(noise)).max()), captions)
    return figure_to_image(figure)


def decibels(noise: Tensor) -> tuple[Tensor, Tensor]:
    """Frequencies (R,) and the batch's mean power over them (R,) in dB; without the mean where there is more."""
    frequency, spectrum = radial_spectrum(noise)
    first = min(1, len(frequency) - 1)
    return frequency[first:], 10 * spectrum.mean(0)[first:].clamp(min=FLOOR).log10()


def marker(values: Tensor) -> str:
    """Points where a line would be too short to see."""
    return "o" if len(values) < 12 else ""


def mark_bands(panels: list[Axes], highest: float, captions: list[str]) -> None:
    """Dashed lines between the thirds of 0..highest, and their captions along the top of the first panel."""
    panels[0].margins(y=0.25)
    panels[0].set_xlim(0, 1.02 * highest or 1)
    for band, caption in enumerate(captions if highest else ()):
        for axes in panels if band else ():
            axes.axvline(highest * band / 3, color=GREY, linewidth=1.5, linestyle="--")
        place: dict[str, Any] = {
            "transform": panels[0].get_xaxis_transform(),
            "ha": "center",
            "va": "top",
            "fontsize": 15,
        }
        panels[0].text(highest * (band + 0.5) / 3, 0.97, caption, **place)


NODES = [NoiseSpectrum]

"""Save Noise and Load Noise: noise files in ComfyUI's output and input folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.v0_0_2 import io

from ..noise import files, set_files
from . import host
from .checks import shortened
from .latents import IN_ORDER, ColouredNoise, FixedNoise, SetNoise, noise_for, parts
from .node import Node

SUFFIX = ".safetensors"


class SaveNoise(Node):
    """Writes noise with what made it to the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeSaveNoise",
            display_name="Save Noise",
            category="noise optimize/noise",
            description="Saves noise to the output folder, with its seed, spectrum, shape, scores and settings; of a "
            "noise set its patterns, which fit every size and seed, and what they were found on.",
            search_aliases=["export noise", "store noise", "keep noise"],
            is_output_node=True,
            inputs=[
                io.Noise.Input("noise", tooltip="The noise to keep, for example what Noise Optimize found."),
                io.Latent.Input("latent_image", tooltip="The latent that gives size and batch."),
                io.String.Input(
                    "filename_prefix",
                    default="noise/noise",
                    tooltip="Name in the output folder; may hold subfolders and %year%, %month%, %day%.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, noise: Any, latent_image: dict[str, Any], filename_prefix: str) -> io.NodeOutput:
        folder, name, counter, subfolder = place(filename_prefix)
        file = f"{name}_{counter:05}_{SUFFIX}"
        try:
            write(folder / file, noise, latent_image)
        except OSError as error:
            raise ValueError(
                f"filename_prefix {shortened(filename_prefix)} cannot be written ({error.strerror}); choose another "
                "prefix or free its folder."
            ) from error
        return io.NodeOutput(ui={"noise": [{"filename": file, "subfolder": subfolder, "type": "output"}]})


def write(path: Path, noise: Any, latent: dict[str, Any]) -> None:
    """The noise for a LATENT as a file; of a noise set, the set."""
    if isinstance(noise, SetNoise):
        set_files.save_set(path, noise.found)
        return
    kept = files.NoiseFile(
        samples=tuple(parts(noise_for(noise, latent))),
        seed=noise.seed,
        batch_index=latent.get("batch_index"),
        spectrum=described(noise),
        scores=noise.scores if isinstance(noise, FixedNoise) else {},
        settings=noise.settings if isinstance(noise, FixedNoise) else {},
    )
    files.save(path, kept)


def place(prefix: str) -> tuple[Path, str, int, str]:
    """Folder, name, counter and subfolder for a prefix in the output folder, by the host's rules."""
    output = folder_paths.get_output_directory()
    target = os.path.normpath(os.path.join(output, prefix.replace("\\", "/")))
    if not inside(output, target) or os.path.realpath(output) == os.path.realpath(target):
        raise ValueError(
            f"filename_prefix {shortened(prefix)} names no file inside the output folder; use a name like noise/noise."
        )
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, output)
    except OSError as error:
        raise ValueError(
            f"filename_prefix {shortened(prefix)}: its folder cannot be used ({error.strerror}); choose another prefix."
        ) from error
    return Path(folder), name, counter, subfolder


def inside(folder: str, path: str) -> bool:
    """Whether a path lies in a folder, links followed."""
    try:
        return Path(path).resolve().is_relative_to(Path(folder).resolve())
    except ValueError:  # a null character
        return False


def described(noise: Any) -> dict[str, Any] | None:
    """The spectrum of a NOISE as JSON can hold it; None where it does not say."""
    if isinstance(noise, ColouredNoise):
        return asdict(noise.spectrum)
    return noise.spectrum if isinstance(noise, FixedNoise) else None


class LoadNoise(Node):
    """Reads noise that Save Noise wrote, from the input or output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeLoadNoise",
            display_name="Load Noise",
            category="noise optimize/noise",
            description="Loads noise that Save Noise wrote, for any sampler and the same latent size. A noise set fits "
            "every size; Noise Set has its dials.",
            search_aliases=["import noise", "open noise", "read noise"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=listed(),
                    tooltip="A noise file of the input folder, or of the output folder where it says [output].",
                )
            ],
            outputs=[
                io.Noise.Output(tooltip="The saved noise, for latents of the size it was made for, or the noise set."),
                io.Latent.Output(
                    tooltip="The saved noise as a latent; of a noise set, one for each pattern, where it was found."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        try:
            if file is not None:
                read(located(file))
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return stamp(file, located)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        noise = read(located(file))
        if isinstance(noise, SetNoise):
            patterns = noise.found.coefficients
            size = noise.found.size or patterns.shape[2:]
            latent = {"samples": torch.zeros(*patterns.shape[:2], *size)}
            return io.NodeOutput(noise, {"samples": SetNoise(noise.found, 0, pattern=IN_ORDER).generate_noise(latent)})
        return io.NodeOutput(noise, {"samples": noise.samples})


def read(path: Path) -> FixedNoise | SetNoise:
    """The NOISE that Save Noise wrote; raises ValueError where it did not, or where the file is damaged."""
    if set_files.is_set(path):
        return SetNoise(set_files.load_set(path), 0)
    kept = files.load(path)
    nested = len(kept.samples) > 1
    samples = host.nested(kept.samples) if nested else kept.samples[0]
    return FixedNoise(samples, kept.seed, kept.settings, kept.scores, kept.spectrum, kept.batch_index)


def stamp(name: str, place: Callable[[str], Path]) -> str:
    """What changes when the file at place(name) does."""
    try:
        stat = place(name).stat()
    except (ValueError, OSError):
        return name
    return f"{name} {stat.st_mtime_ns} {stat.st_size}"


def listed() -> list[str]:
    """Every safetensors file of the input folder, then of the output folder, as the host names files."""
    folders = {"": folder_paths.get_input_directory(), " [output]": folder_paths.get_output_directory()}
    return [
        Path(name).as_posix() + mark
        for mark, folder in folders.items()
        for name in sorted(folder_paths.recursive_search(folder)[0])
        if name.endswith(SUFFIX)
    ]


def located(file: str) -> Path:
    """The path of a listed file; raises ValueError where the name leads out of ComfyUI's folders."""
    folders = (
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
    )
    try:
        path = folder_paths.get_annotated_filepath(str(file))
        found = any(inside(folder, path) for folder in folders)
    except ValueError:  # newer hosts look themselves
        found = False
    if not found:
        raise ValueError(f"file {shortened(file)} leads outside ComfyUI's folders; choose one of the list.")
    return Path(path)


NODES = [SaveNoise, LoadNoise]

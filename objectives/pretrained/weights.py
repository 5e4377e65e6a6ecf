"""Published weights: found in given folders, then in the libraries' caches, else fetched from the library's source."""

from __future__ import annotations

import inspect
import logging
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Progress = Callable[[int, int], None]
TYPES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")  # in the order in which they are preferred


@dataclass(frozen=True)
class Weights:
    """A published file of weights, and where it may lie.

    stem: the file name in a folder of the user's, without its type; aliases: other names that it goes by.
    licence: of the weights.
    repository, hub_files: on the Hugging Face hub, the preferred file first.
    url: what a library itself names as its source, for weights that are not on the hub; cached in torch.hub's folder.
    gated: a licence that its reader has to accept: such weights are never fetched.
    """

    title: str
    stem: str
    licence: str
    repository: str = ""
    hub_files: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")
    url: str = ""
    gated: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return f"the Hugging Face hub, {self.repository}/{self.hub_files[0]}" if self.repository else self.url


def find(weights: Weights, folders: Sequence[str | Path] = ()) -> Path | None:
    """The file in the folders, else in the hub's or torch's cache, else None; nothing is fetched."""
    for folder, stem, suffix in product(folders, (weights.stem, *weights.aliases), TYPES):
        if (path := Path(folder, stem + suffix)).is_file():
            return path
    return _in_hub_cache(weights) if weights.repository else _in_torch_cache(weights)


def locate(weights: Weights, folders: Sequence[str | Path] = (), progress: Progress | None = None) -> Path:
    """The file, fetched to the library's own cache where it is nowhere.

    progress: called with (bytes done, bytes in all). Raises FileNotFoundError that says in one sentence what to do.
    """
    if (path := find(weights, folders)) is not None:
        return path
    reason = "their license has to be accepted first"
    if not weights.gated:
        logging.info("Noise Optimize fetches %s (%s) from %s.", weights.title, weights.licence, weights.source)
        try:
            return _from_hub(weights, progress) if weights.repository else _from_url(weights)
        except (OSError, ValueError, RuntimeError) as error:  # the hub's and torch.hub's own errors are of these kinds
            logging.debug("Fetching %s failed.", weights.title, exc_info=error)
            reason = f"they could not be fetched ({type(error).__name__})"
    raise FileNotFoundError(
        f"The weights of {weights.title} are missing, and {reason}: put {weights.stem}.safetensors (or .pth) into "
        f"{folders[0] if folders else 'a model folder'}; license {weights.licence}, source {weights.source}."
    )


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU; a pickle is opened with weights_only=True and can run no code."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path.name} holds more than weights and was not opened; get it again, as .safetensors if there is one."
        ) from error
    state = state.get("state_dict", state)
    return {name.removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}


def _in_hub_cache(weights: Weights) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in weights.hub_files:
        if isinstance(path := try_to_load_from_cache(weights.repository, name), str):
            return Path(path)
    return None


def _in_torch_cache(weights: Weights) -> Path | None:
    path = _torch_file(weights)
    return path if path.is_file() else None


def _torch_file(weights: Weights) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])


def _from_hub(weights: Weights, progress: Progress | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    shown = "tqdm_class" in inspect.signature(hf_hub_download).parameters  # not before hub 1.0
    meter: dict[str, Any] = {"tqdm_class": _meter(progress)} if progress and shown else {}
    for name in weights.hub_files:
        try:
            return Path(hf_hub_download(weights.repository, name, **meter))
        except LocalEntryNotFoundError:
            raise  # offline: the other names would fail likewise
        except EntryNotFoundError:
            continue
    raise FileNotFoundError(f"{weights.repository} has none of {', '.join(weights.hub_files)}")


def _from_url(weights: Weights) -> Path:
    path = _torch_file(weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    checksum = torch.hub.HASH_REGEX.search(path.name)
    torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=checksum.group(1) if checksum else None)
    return path


def _meter(progress: Progress) -> type:
    """A bar of the hub's kind that also reports to `progress`."""
    from huggingface_hub.utils import tqdm

    class Meter(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            progress(int(self.n), int(self.total or 0))
            return shown

    return Meter

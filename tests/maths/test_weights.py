"""Weights are found where people keep them, fetched only from their source, and never run code."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.error import URLError

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save_file

from noise_optimize.objectives.pretrained.weights import Weights, find, locate, read

HUB = Weights("Tiny", "tiny_net", "MIT", "owner/tiny", aliases=("tiny_pretrain",))
URL = Weights("Trunk", "trunk-0123abcd", "BSD-3-Clause", url="https://models.invalid/trunk-0123abcd.pth")
STATE = {"weight": torch.arange(3.0)}


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))


def hub_cache(root: Path, name: str) -> Path:
    """A file in the cache of the Hugging Face hub, as its client lays it out."""
    repository = root / "hub" / "models--owner--tiny"
    path = repository / "snapshots" / "abc" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    return path


def test_the_users_folders_come_first_and_safetensors_before_pth(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    cached = hub_cache(tmp_path, "pytorch_model.bin")
    assert find(HUB, folders) == cached
    for path in (
        folders[1] / "tiny_net.safetensors",
        folders[0] / "tiny_pretrain.pth",
        folders[0] / "tiny_net.pth",
        folders[0] / "tiny_net.safetensors",
    ):
        path.write_bytes(b"")
        assert locate(HUB, folders) == path


def test_torchs_cache_is_searched_for_what_torchvision_publishes(tmp_path: Path) -> None:
    path = tmp_path / "torch" / "checkpoints" / "trunk-0123abcd.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert locate(URL, [tmp_path]) == path


@pytest.mark.parametrize("weights", [HUB, URL], ids=["hub", "url"])
def test_offline_one_sentence_names_file_folder_licence_and_source(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(URLError("offline")))
    with pytest.raises(FileNotFoundError) as caught:
        locate(weights, [tmp_path])
    message = str(caught.value)
    source = "owner/tiny/model.safetensors" if weights is HUB else weights.url
    assert all(part in message for part in (f"{weights.stem}.safetensors", str(tmp_path), weights.licence, source))
    assert message.endswith(".") and ". " not in message and "\n" not in message


def test_weights_whose_licence_has_to_be_accepted_are_never_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args, **_: fetched.append(args))
    with pytest.raises(FileNotFoundError, match="license has to be accepted"):
        locate(Weights("Gated", "gated", "its own", "owner/gated", gated=True), [tmp_path])
    assert not fetched


def test_the_hub_is_asked_for_the_preferred_file_first_and_shows_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, seen = [], []

    def download(repository: str, name: str, tqdm_class: type | None = None) -> str:
        asked.append((repository, name))
        if name.endswith(".safetensors"):
            raise EntryNotFoundError(name)
        with tqdm_class(total=10, disable=False, file=open(os.devnull, "w")) as bar:
            bar.update(4)
            bar.update(6)
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    path = locate(HUB, [tmp_path], lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "pytorch_model.bin"
    assert asked == [("owner/tiny", "model.safetensors"), ("owner/tiny", "pytorch_model.bin")]
    assert seen == [(4, 10), (10, 10)]


def test_a_url_is_fetched_into_torchs_cache_and_its_checksum_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **options: asked.append((*args, options)))
    path = tmp_path / "torch" / "checkpoints" / "trunk-0123abcd.pth"
    assert locate(URL, [tmp_path]) == path
    assert asked == [(URL.url, str(path), {"hash_prefix": "0123abcd"})]


def test_every_type_of_file_is_read_alike(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.safetensors")
    torch.save(STATE, tmp_path / "b.pth")
    torch.save({"epoch": 3, "state_dict": {"module.weight": STATE["weight"]}}, tmp_path / "c.pt")
    for path in sorted(tmp_path.iterdir()):
        assert read(path).keys() == STATE.keys() and torch.equal(read(path)["weight"], STATE["weight"])


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, at: Path):
        self.at = at

    def __reduce__(self):
        return os.mkdir, (str(self.at),)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"weight": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pth")
    with pytest.raises(ValueError, match=r"bomb\.pth holds more than weights"):
        read(tmp_path / "bomb.pth")
    assert not (tmp_path / "ran").exists()

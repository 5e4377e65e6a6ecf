"""A file of a noise set gives back the set, is a few kilobytes, and says in one sentence what is wrong with it."""

import pytest
import safetensors.torch
import torch

from noise_optimize.noise import files
from noise_optimize.noise.patterns import NoiseSet
from noise_optimize.noise.set_files import is_set, load_set, save_set

COEFFICIENTS = torch.randn(16, 16, 3, 3, generator=torch.Generator().manual_seed(0))
FIELDS = {
    "order": tuple(reversed(range(16))),
    "size": (8, 8),
    "model": "Flux",
    "latent_format": "Flux",
    "prompts": ("a house", 'a sign that says "OPEN"'),
    "unseen": ("a cat",),
    "scores": {"plain": {"vendi": 0.3}, "set": {"vendi": 0.6}},
    "settings": {"iterations": 40},
}
KEPT = NoiseSet(COEFFICIENTS, **FIELDS)


def test_what_is_saved_is_loaded_in_a_few_kilobytes(tmp_path):
    path = save_set(tmp_path / "set.safetensors", KEPT)
    loaded = load_set(path)
    assert loaded.coefficients.equal(COEFFICIENTS)
    assert {name: getattr(loaded, name) for name in FIELDS} == FIELDS
    assert path.stat().st_size < 4 * COEFFICIENTS.numel() + 2000
    assert [file.name for file in tmp_path.iterdir()] == ["set.safetensors"]


def test_noise_and_sets_are_told_apart_by_their_headers(tmp_path):
    found = save_set(tmp_path / "set.safetensors", KEPT)
    noise = files.save(tmp_path / "noise.safetensors", files.NoiseFile((torch.zeros(1, 4, 8, 8),)))
    (tmp_path / "text.safetensors").write_text("no tensors at all, but long enough for a header")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    names = ("noise", "text", "empty", "missing")
    assert is_set(found) and not any(is_set(tmp_path / f"{name}.safetensors") for name in names)
    with pytest.raises(ValueError, match="noise.safetensors holds no noise set; choose a file of Find Noise Set"):
        load_set(noise)
    with pytest.raises(ValueError, match="set.safetensors holds no noise; choose"):
        files.load(found)


ODD = {
    "order": ["[]", "[0, 1]", "[0.0]", "7", "[" * 100_000 + "]" * 100_000],
    "size": ['["8"]', "8"],
    "model": ["7", "[]"],
    "prompts": ["[7]", '"a house"'],
    "scores": ["[]", "{"],
}


@pytest.mark.parametrize(
    ("field", "stored"), [(field, stored) for field in ODD for stored in ODD[field]], ids=lambda word: word[:20]
)
def test_a_file_whose_fields_save_would_not_have_written_is_damaged(tmp_path, field, stored):
    with safetensors.safe_open(save_set(tmp_path / "set.safetensors", KEPT), framework="pt") as file:
        metadata = file.metadata() | {field: stored}
    safetensors.torch.save_file({"coefficients": COEFFICIENTS}, tmp_path / "odd.safetensors", metadata)
    with pytest.raises(ValueError, match=r"^odd.safetensors is damaged or no safetensors file; get the noise set"):
        load_set(tmp_path / "odd.safetensors")


@pytest.mark.parametrize(
    "tensors",
    [
        {"coefficients": COEFFICIENTS.half()},
        {"coefficients": COEFFICIENTS[0]},
        {"coefficients": COEFFICIENTS / 0},
        {"patterns": COEFFICIENTS},
    ],
    ids=["half", "of one", "not finite", "of another name"],
)
def test_tensors_that_are_no_patterns_are_damaged(tmp_path, tensors):
    with safetensors.safe_open(save_set(tmp_path / "set.safetensors", KEPT), framework="pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file(tensors, tmp_path / "odd.safetensors", metadata)
    with pytest.raises(ValueError, match=r"^odd.safetensors is damaged"):
        load_set(tmp_path / "odd.safetensors")


def test_missing_cut_off_and_newer_files_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="^gone.safetensors: there is no such noise set; choose"):
        load_set(tmp_path / "gone.safetensors")
    whole = save_set(tmp_path / "set.safetensors", KEPT).read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"^half.safetensors is damaged"):
        load_set(tmp_path / "half.safetensors")
    newer = {"format": "noise_optimize.set", "version": "2"}
    safetensors.torch.save_file({"coefficients": COEFFICIENTS}, tmp_path / "newer.safetensors", newer)
    with pytest.raises(ValueError, match="update the pack"):
        load_set(tmp_path / "newer.safetensors")

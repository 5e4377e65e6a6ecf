"""A noise file gives back what was saved, is whole or not there, and says in one sentence what is wrong with it."""

import builtins
import os
import pickle

import pytest
import safetensors.torch
import torch

from noise_optimize.noise.files import NoiseFile, load, save

NOISE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
KEPT = NoiseFile(
    samples=(NOISE,),
    seed=2**64 - 1,
    batch_index=[3, 5],
    spectrum={"kind": "paper", "alpha": 0.2},
    scores={"Vendi": [1.5, 2.0]},
    settings={"iterations": 10},
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_saved_is_loaded(tmp_path, dtype):
    parts = (NOISE.to(dtype), NOISE[0].transpose(0, 1).to(dtype))
    kept = NoiseFile(parts, KEPT.seed, KEPT.batch_index, KEPT.spectrum, KEPT.scores, KEPT.settings)
    loaded = load(save(tmp_path / "noise.safetensors", kept))
    assert all(a.equal(b) and a.dtype == dtype for a, b in zip(loaded.samples, parts, strict=True))
    for name in ("seed", "batch_index", "spectrum", "scores", "settings"):
        assert getattr(loaded, name) == getattr(kept, name)


def test_the_file_tells_other_programs_what_it_holds(tmp_path):
    with safetensors.safe_open(save(tmp_path / "noise.safetensors", KEPT), framework="pt") as file:
        assert file.metadata()["shape"] == "[[2, 4, 8, 8]]"
        assert file.metadata()["seed"] == str(2**64 - 1)
        assert file.get_tensor("noise_0").equal(NOISE)


@pytest.mark.parametrize("step", ["write", "replace"])
def test_an_interrupted_save_leaves_no_file_and_keeps_the_old_one(tmp_path, monkeypatch, step):
    """Interrupted by Ctrl-C half way through the writing, and just before the new name."""
    path = save(tmp_path / "old.safetensors", KEPT)
    before = path.read_bytes()
    real = builtins.open

    def opened(name, mode="r"):
        file = real(name, mode)

        class HalfWritten:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                file.close()

            def write(self, data):
                file.write(data[: len(data) // 2])
                raise KeyboardInterrupt

        return HalfWritten()

    def stop(*paths):
        raise KeyboardInterrupt

    if step == "write":
        monkeypatch.setattr(builtins, "open", opened)
    else:
        monkeypatch.setattr(os, "replace", stop)
    for name in ("old.safetensors", "new.safetensors"):
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path / name, NoiseFile((NOISE * 2,)))
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["old.safetensors"] and path.read_bytes() == before


def damaged_files():
    whole = safetensors.torch.save({"noise_0": NOISE}, {"format": "noise_optimize.noise", "version": "1"})
    return {
        "empty": b"",
        "cut off": whole[: len(whole) // 2],
        "text": b"no tensors at all, but long enough for a header",
        "pickle": pickle.dumps({"noise_0": [1, 2, 3]}),
        "without its metadata": whole,
    }


@pytest.mark.parametrize("case", damaged_files())
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, case):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(damaged_files()[case])
    with pytest.raises(ValueError, match=r"^broken.safetensors is damaged or no safetensors file; save .*\.$"):
        load(path)


ODD = {
    "seed": ["1.5", "18446744073709551616", '"7"', "true", "1" * 5000],
    "batch_index": ["[3]", "[3, -5]", "[[3], [5]]", "[3, 5.0]", "7", '"35"'],
    "settings": ["[" * 100_000 + "]" * 100_000, "[]", '"x"', "{"],
    "shape": ["[" * 100_000 + "]" * 100_000, "[[2, 4, 8, 9]]", "[]", "2"],
}


@pytest.mark.parametrize(
    ("field", "stored"), [(field, stored) for field in ODD for stored in ODD[field]], ids=lambda word: word[:20]
)
def test_a_file_whose_fields_save_would_not_have_written_is_damaged(tmp_path, field, stored):
    with safetensors.safe_open(save(tmp_path / "noise.safetensors", KEPT), framework="pt") as file:
        metadata = file.metadata() | {field: stored}
    safetensors.torch.save_file({"noise_0": NOISE}, tmp_path / "odd.safetensors", metadata)
    with pytest.raises(ValueError, match=r"^odd.safetensors is damaged"):
        load(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int32, torch.bool, torch.complex64])
def test_tensors_that_are_no_noise_are_damaged(tmp_path, dtype):
    with safetensors.safe_open(save(tmp_path / "noise.safetensors", KEPT), framework="pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file({"noise_0": NOISE.to(dtype)}, tmp_path / "odd.safetensors", metadata)
    with pytest.raises(ValueError, match=r"^odd.safetensors is damaged"):
        load(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", ".", ""])
def test_a_name_that_no_file_can_have_is_told_briefly(tmp_path, name):
    with pytest.raises(ValueError, match="there is no such noise file") as told:
        load(f"{tmp_path}/{name}")
    assert len(str(told.value)) < 250


class Trap:
    """Unpickling this makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_nothing_is_ever_unpickled(tmp_path):
    path, sprung = tmp_path / "trap.safetensors", tmp_path / "sprung"
    torch.save(Trap(str(sprung)), path)
    with pytest.raises(ValueError, match="damaged"):
        load(path)
    assert not sprung.exists()


def test_missing_foreign_and_newer_files_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="^gone.safetensors: there is no such noise file; choose"):
        load(tmp_path / "gone.safetensors")
    with pytest.raises(ValueError, match="there is no such noise file"):
        load(tmp_path)
    for metadata, remedy in [
        (None, "holds no noise; choose a file written by Save Noise"),
        ({"format": "noise_optimize.noise", "version": "2"}, "update the pack"),
    ]:
        safetensors.torch.save_file({"weight": NOISE}, tmp_path / "other.safetensors", metadata)
        with pytest.raises(ValueError, match=remedy):
            load(tmp_path / "other.safetensors")


def test_noise_that_is_not_finite_is_not_saved():
    with pytest.raises(ValueError, match="not finite"):
        NoiseFile((NOISE / 0,))


def test_an_unwritable_folder_is_the_systems_error_and_nothing_is_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        save(tmp_path / "file" / "noise.safetensors", KEPT)
    assert (tmp_path / "file").read_text() == ""

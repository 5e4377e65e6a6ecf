"""Keep these, push the rest away: what is kept stays bit for bit, and the others move away from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy_extras.nodes_custom_sampler as samplers
import folder_paths
import pytest
import tiny_models
import torch
from told import Told, spread

from noise_optimize.nodes import files, keeping
from noise_optimize.nodes.latents import FixedNoise
from noise_optimize.nodes.optimize import NoiseOptimize
from noise_optimize.noise.basis import BASES
from noise_optimize.noise.optimizers import OPTIMIZERS
from noise_optimize.objectives import Batch, Diversity, LatentFeatures
from noise_optimize.objectives.objective import Objective

NODE = NoiseOptimize.PREPARE_CLASS_CLONE(None)
LARGE = {"optimizer": "large steps", "learning_rate": 0.35, "iterations": 2}
LENGTHS = {"large steps": 0.35, "sgd": 0.02, "nesterov": 0.02, "adam": 0.05, "cma": 0.05}
APART = Diversity(features=LatentFeatures(grid=4), statistic="pairwise")
PICTURES = 4


@pytest.fixture
def wires() -> dict[str, Any]:
    return wired()


@torch.inference_mode()
def wired(sampler: str = "euler", batch: int = PICTURES, seed: int = 1) -> dict[str, Any]:
    model = tiny_models.model("sdxl")
    return {
        "noise": samplers.RandomNoise.execute(seed).args[0],
        "guider": samplers.BasicGuider.execute(model, tiny_models.conditioning("sdxl")).args[0],
        "sampler": samplers.KSamplerSelect.execute(sampler).args[0],
        "sigmas": samplers.BasicScheduler.execute(model, "simple", 2, 1.0).args[0],
        "latent_image": tiny_models.latent("sdxl", 4, 4, batch),
    }


@torch.inference_mode()
def run(wires: dict[str, Any], by: Any = spread, **widgets: Any) -> tuple[FixedNoise, torch.Tensor, str, dict]:
    """Noise, latents, report, and what the browser is told."""
    objective = by if isinstance(by, Objective) else Told(by=by)
    done = NODE.execute(**wires, objective=objective, **LARGE | widgets)
    noise, latent, *_, report, _ = done.args
    return noise, latent["samples"], report, done.ui["kept"][0]


@torch.inference_mode()
def sampled(wires: dict[str, Any]) -> torch.Tensor:
    return samplers.SamplerCustomAdvanced.execute(**wires).args[0]["samples"]


def start(wires: dict[str, Any]) -> torch.Tensor:
    return wires["noise"].generate_noise(wires["latent_image"])


def seeded(wires: dict[str, Any], seed: int) -> dict[str, Any]:
    return wires | {"noise": samplers.RandomNoise.execute(seed).args[0]}


def from_kept(latents: torch.Tensor, kept: list[int]) -> float:
    """How far the others are from those kept, on average."""
    others = [i for i in range(len(latents)) if i not in kept]
    return float(APART.distances(Batch(latents=latents))[others][:, kept].mean())


def moved(noise: torch.Tensor, before: torch.Tensor) -> list[int]:
    return (noise != before).flatten(1).any(dim=1).nonzero().flatten().tolist()


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_kept_stays_bit_for_bit_and_the_others_move(wires, optimizer, basis):
    how = {"optimizer": optimizer, "learning_rate": LENGTHS[optimizer], "basis": basis, "iterations": 4}
    noise, latents, report, _ = run(wires, keep="1, 3", whiteness_weight=0.1, **how)
    before, plain = start(wires), sampled(wires)
    assert moved(noise.samples, before) == [1, 3]
    assert latents[[0, 2]].equal(plain[[0, 2]]) and spread(latents) > spread(plain)
    assert "Pictures kept: 1, 3." in report
    radius = noise.samples.flatten(1).norm(dim=1)
    torch.testing.assert_close(radius[[1, 3]], before.flatten(1).norm(dim=1)[[1, 3]], rtol=0.2, atol=0)


def test_the_others_move_away_from_what_is_kept(wires):
    for kept in ([0], [1, 3]):
        numbers = ", ".join(str(i + 1) for i in kept)
        _, latents, _, _ = run(wires, APART, keep=numbers, iterations=5, look_at="finished picture")
        assert from_kept(latents, kept) > from_kept(sampled(wires), kept)


def test_what_is_measured_of_a_run_is_of_what_may_move(wires):
    """As if those kept were not in the batch: their noise does not count in the radius and the change."""
    seen: list[dict[str, Any]] = []
    for keep in ("", "1, 2, 3"):
        done = NODE.execute(**wires, objective=Told(by=lambda z, n: z[3].mean()), keep=keep, **LARGE)
        seen.append(json.loads(done.args[5])[0]["iterations"])
    assert seen[1][0]["radius"] == pytest.approx(float(start(wires)[3].norm() / 63**0.5))
    assert sum(seen[1][1]["change"]) == pytest.approx(1) and seen[1][0]["gradient_norm"] > 0


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_picture_that_was_found_is_kept_from_its_file_as_it_was_shown(sampler, seed):
    wires = wired(sampler)
    first, shown, _, told = run(wires)
    measured = {name: told[name] for name in ("file", "label", "line")}
    assert told == measured | {"pictures": PICTURES, "keep": [], "kept_from": ""}
    again = seeded(wires, seed)
    noise, latents, _, told_again = run(again, keep="2", kept_from=told["file"])
    assert latents[1].equal(shown[1]) and noise.samples[1].equal(first.samples[1])
    assert moved(noise.samples, first.samples) == [0, 2, 3] and {0, 2, 3} <= {*moved(noise.samples, start(again))}
    assert told_again["keep"] == [2] and told_again["kept_from"] == told["file"] != told_again["file"]
    assert sampled(wires | {"noise": noise}).equal(latents), "and any sampler makes them of the noise handed out"
    third, more, _, _ = run(seeded(wires, 3), keep="1 2", kept_from=told_again["file"])
    assert more[:2].equal(latents[:2]) and moved(third.samples, noise.samples) == [2, 3]


def test_the_file_outlives_a_restart_once_something_is_kept(wires):
    wires = seeded(wires, 77)
    _, shown, _, told = run(wires)
    made, stays = (Path(get(), "noise", told["file"]) for get in (folder_paths.get_temp_directory,
                                                                  folder_paths.get_output_directory))  # fmt: skip
    assert made.is_file() and not stays.exists()
    run(wires)
    assert run(wires)[3]["file"] == told["file"] and files.read(made).seed == 77, "the same noise has the same name"
    run(wires, keep="1", kept_from=told["file"])
    made.unlink()
    assert run(wires, keep="1", kept_from=told["file"])[1][0].equal(shown[0])
    stays.unlink()
    with pytest.raises(ValueError, match="is gone: clear keep and kept_from, run, and click"):
        run(wires, keep="1", kept_from=told["file"])


def test_the_numbers_mean_the_wired_noise_where_no_file_is_named(wires):
    found = run(wires)[0]
    noise, *_ = run(wires | {"noise": found}, keep="4,1")
    assert moved(noise.samples, found.samples) == [1, 2]
    name = f"noise/mine{files.SUFFIX}"
    path = Path(folder_paths.get_output_directory(), name)
    path.parent.mkdir(exist_ok=True)
    files.write(path, found, wires["latent_image"])
    named = run(seeded(wires, 5), keep="4", kept_from=f"{name} [output]")[0]
    assert named.samples[3].equal(found.samples[3]) and len(moved(named.samples, found.samples)) == 3


def test_without_an_iteration_what_is_kept_is_put_among_the_wired_noise(wires):
    found = run(wires)
    noise, latents, _, _ = run(seeded(wires, 2), keep="3", kept_from=found[3]["file"], iterations=0)
    fresh = start(seeded(wires, 2))
    assert noise.samples[2].equal(found[0].samples[2]) and moved(noise.samples, fresh) == [2]
    assert latents[2].equal(found[1][2])


def test_where_all_are_kept_they_are_only_sampled_and_it_is_said(wires):
    noise, latents, report, _ = run(wires, keep="1 2 3 4", iterations=5)
    assert noise.samples.equal(start(wires)) and latents.equal(sampled(wires))
    assert "stopped because all of them are kept" in report and "as much as 1 plain sampling run of 4" in report


def test_under_a_mask_what_is_kept_stays_too(wires):
    mask = torch.zeros(1, 4, 4)
    mask[:, :2] = 1
    content = torch.randn(PICTURES, 4, 4, 4, generator=tiny_models.generator())
    wires["latent_image"] = {"samples": content, "noise_mask": mask}
    noise, *_ = run(wires, keep="2")
    changed = noise.samples != start(wires)
    assert not changed[1].any() and not changed[:, :, 2:].any() and changed[[0, 2, 3], :, :2].all()
    only = torch.zeros(PICTURES, 4, 4)
    only[1] = 1
    wires["latent_image"] = {"samples": content, "noise_mask": only}
    for optimizer in ("large steps", "cma"):
        still, _, report, _ = run(wires, keep="2", optimizer=optimizer)
        assert still.samples.equal(start(wires)) and "stopped because nothing may move" in report


def test_the_batches_of_a_set_differ_from_what_is_kept_in_later_ones_too(wires):
    """Of six in batches of two, 6 is kept: the first batch, which is made before it, is pushed away from it."""
    wires = wired(batch=2)
    seen: list[int] = []

    def by(latents: torch.Tensor, n: int) -> torch.Tensor:
        seen.append(len(latents))
        return spread(latents)

    class Bound(Told):
        def bind(self, start: Any = None, references: Any = None) -> Objective:
            return self if references is None else Bound(by=lambda z, n: by(torch.cat([z, references.latents]), n))

    noise, latents, _, told = run(wires, Bound(by=by), total_pictures=6, keep="6")
    drawn = wires["noise"].generate_noise({"samples": torch.zeros(6, 4, 4, 4)})
    assert moved(noise.samples, drawn) == [0, 1, 2, 3, 4]
    assert seen[0] == 3 and max(seen) == 6, "two and the one that is kept"
    again, more, report, _ = run(seeded(wires, 4), total_pictures=6, keep="3, 4, 6", kept_from=told["file"])
    assert more[2:4].equal(latents[2:4]) and again.samples[[2, 3, 5]].equal(noise.samples[[2, 3, 5]])
    assert "Pictures 3 to 4: 0 iterations" in report
    fewer = run(wires, keep="1", kept_from=told["file"])
    assert fewer[0].samples[0].equal(noise.samples[0])


def test_references_and_a_cancel_go_with_it(wires):
    import comfy.model_management

    def by(latents: torch.Tensor, n: int) -> torch.Tensor:
        if n == 2:
            raise comfy.model_management.InterruptProcessingException
        return spread(latents)

    noise, latents, _, _ = run(wires, by, keep="1", iterations=9, on_cancel="keep the best")
    assert moved(noise.samples, start(wires)) == [1, 2, 3] and latents[0].equal(sampled(wires)[0])


@pytest.mark.parametrize(
    "keep, kept_from, said",
    [
        ("5", "", "there are 4 pictures: keep some of 1 to 4"),
        ("0", "", "write numbers of pictures from 1"),
        ("1, two", "", "write numbers of pictures from 1, such as 1, 3"),
        ("-1", "", "write numbers of pictures"),
        ("1", "kept_0123456789abcdef.safetensors", "is gone: clear keep and kept_from"),
        ("1", "../../secret.safetensors", "leads outside"),
        ("1", "nothing.safetensors", "is gone"),
    ],
)
def test_what_cannot_be_kept_is_said_in_one_sentence(wires, keep, kept_from, said):
    with pytest.raises(ValueError, match=said) as told:
        run(wires, keep=keep, kept_from=kept_from)
    assert str(told.value).count(". ") == 0


def test_a_file_of_another_size_or_of_fewer_pictures_is_told(wires):
    file = run(wired(batch=2))[3]["file"]
    with pytest.raises(ValueError, match="holds the noise of 2 pictures: keep some of 1 to 2, or clear kept_from"):
        run(wires, keep="3", kept_from=file)
    wires["latent_image"] = tiny_models.latent("sdxl", 4, 6, PICTURES)
    with pytest.raises(ValueError, match="set latent_image to the size of the kept pictures, or clear keep"):
        run(wires, keep="1", kept_from=file)


def test_the_widgets_come_last_and_are_optional():
    inputs = NODE.define_schema().inputs
    assert [each.id for each in inputs[-2:]] == ["keep", "kept_from"] == [each.id for each in keeping.keep_inputs()]
    assert all(each.optional and each.default == "" for each in inputs[-2:]) and inputs[-1].advanced
    assert NODE.define_schema().has_intermediate_output, "a cached rerun shows its pictures"

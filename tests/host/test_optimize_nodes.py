"""Noise Optimize inside the host when things go wrong, with objectives made to fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import comfy.model_management
import comfy_extras.nodes_custom_sampler as samplers
import pytest
import tiny_models
import torch
from told import Told, spread

from noise_optimize.nodes import run
from noise_optimize.nodes.host.session import Session
from noise_optimize.nodes.host.wires import DifferentiableSampler
from noise_optimize.nodes.latents import FixedNoise
from noise_optimize.nodes.optimize import NoiseOptimize
from noise_optimize.noise import recipes
from noise_optimize.objectives.objective import Objective

NODE = NoiseOptimize.PREPARE_CLASS_CLONE(None)


@pytest.fixture
def wires():
    with torch.inference_mode():
        model = tiny_models.model("sdxl")
        return {
            "noise": samplers.RandomNoise.execute(1).args[0],
            "guider": samplers.BasicGuider.execute(model, tiny_models.conditioning("sdxl")).args[0],
            "sampler": samplers.KSamplerSelect.execute("euler").args[0],
            "sigmas": samplers.BasicScheduler.execute(model, "simple", 2, 1.0).args[0],
            "latent_image": tiny_models.latent("sdxl", 4, 4, 2),
        }


@torch.inference_mode()
def optimise(wires, by, **widgets):
    objective = by if isinstance(by, Objective) else Told(by=by)
    return NODE.execute(**wires, objective=objective, **{"iterations": 4} | widgets).args


@torch.inference_mode()
def sampled(wires):
    return samplers.SamplerCustomAdvanced.execute(**wires).args[0]["samples"]


def test_nan_is_told_in_the_report_and_the_noise_stays_finite(wires):
    noise, latent, _, _, report, _ = optimise(wires, lambda z, n: spread(z) * (math.nan if n == 2 else 1))
    assert "learning rate halved" in report and "told: " in report
    assert noise.samples.isfinite().all() and latent["samples"].isfinite().all()
    given_up = optimise(wires, lambda z, n: spread(z) * (math.nan if n else 1), iterations=9)
    assert "3 times in a row" in given_up[4]
    assert given_up[1]["samples"].equal(sampled(wires))


def test_one_picture_that_breaks_is_told_by_its_number_in_the_set_and_the_others_go_on(wires):
    def by(z, n):
        return spread(z) * 0 + torch.where((torch.arange(len(z)) == 1) & (n == 4), math.nan, z[:, 0, 0, 0])

    wires["latent_image"] = tiny_models.latent("sdxl", 4, 4, 2)
    *_, report, numbers = optimise(wires, Told(by=by, kind="quality"), total_pictures=4, iterations=2, rollback=1.0)
    assert "Iteration 1, picture 4: NaN or infinity" in report
    batches = json.loads(numbers)
    assert [batch["pictures"] for batch in batches] == [[1, 2], [3, 4]]
    assert batches[1]["iterations"][1]["failed"] == [4] and all(len(batch["iterations"]) == 3 for batch in batches)


@pytest.mark.parametrize("iterations", [0, 2])
def test_a_later_batch_that_is_broken_from_the_start_does_not_lose_the_others(wires, iterations):
    def breaks(model, args):
        loud = args["input"].flatten(1).std(dim=1) > 60
        return model(args["input"], args["timestep"], **args["c"]) * torch.where(loud, math.nan, 1)[:, None, None, None]

    start = wires["noise"].generate_noise({"samples": torch.zeros(6, 4, 4, 4)})
    start[2] *= 10
    wires["noise"], wires["guider"].model_options["model_function_wrapper"] = FixedNoise(start), breaks
    noise, latent, _, _, report, numbers = optimise(wires, spread, total_pictures=6, iterations=iterations)
    assert (~latent["samples"].isfinite()).flatten(1).any(dim=1).nonzero().tolist() == [[2]]
    whole = wires | {"noise": noise, "latent_image": tiny_models.latent("sdxl", 4, 4, 6)}
    torch.testing.assert_close(latent["samples"], sampled(whole), rtol=1e-4, atol=1e-4, equal_nan=True)
    assert "Pictures 3 to 4 are as they were sampled. Sample 1 of the batch holds NaN" in report
    assert noise.samples[2:4].equal(start[2:4])
    assert noise.samples.equal(start) == (iterations == 0)
    assert [len(batch["iterations"]) for batch in json.loads(numbers)] == [iterations + 1, 0, iterations + 1]
    assert math.isfinite(noise.scores["after"]["told"])


def test_the_history_comes_as_numbers_too(wires):
    told = Told(by=spread) + Told(by=lambda z, n: torch.tensor([1.0, 0.5 if n == 2 else 1.0]), name="q", kind="quality")
    numbers = json.loads(optimise(wires, told, iterations=3)[5])
    (batch,) = numbers
    steps = batch["iterations"]
    assert [step["iteration"] for step in steps] == [0, 1, 2, 3] and batch["kept"] == 3
    assert all(set(step["scores"]) == {"told", "q"} and len(step["change"]) == 3 for step in steps)
    assert all(step["gradient_norm"] > 0 and step["seconds"] > 0 for step in steps[:-1])
    assert steps[-1]["gradient_norm"] is None and steps[2]["put_back"] == [2] and "3 iterations" in batch["stopped"]
    assert steps[0]["radius"] == pytest.approx(float((wires["noise"].generate_noise(wires["latent_image"])
        .flatten(1).norm(dim=1) / 63**0.5).mean()))  # fmt: skip


def test_an_exception_in_an_objective_leaves_the_host_as_it_was(wires):
    before = sampled(wires)

    def fails(z, n):
        if n == 2:
            raise ZeroDivisionError("of the objective")
        return spread(z)

    with pytest.raises(ZeroDivisionError, match="of the objective"):
        optimise(wires, fails)
    assert not comfy.model_management.in_training
    assert sampled(wires).equal(before)


def test_out_of_memory_is_tried_again_with_less_and_then_explained(wires, monkeypatch):
    modes, start = [], Session.__init__
    monkeypatch.setattr(Session, "__init__", lambda self, w, s, *a: modes.append(s.memory) or start(self, w, s, *a))

    def full(times):
        def by(z, n):
            if n < times:
                raise torch.OutOfMemoryError("no room")
            return spread(z)

        return by

    *_, report, _ = optimise(wires, full(1))
    assert modes == ["auto", "low"] and "4 iterations" in report
    with pytest.raises(torch.OutOfMemoryError, match="2 pictures at once of latent size 4 x 4, even .*lower the batch"):
        optimise(wires, full(9))
    modes.clear()
    for memory, said in (
        ("low", "even with memory low"),
        ("fast", "set memory to auto or low in Differentiable Sampler"),
    ):
        with pytest.raises(torch.OutOfMemoryError, match=said):
            optimise(wires | {"sampler": DifferentiableSampler(wires["sampler"], memory)}, full(9))
    with pytest.raises(torch.OutOfMemoryError, match="4 x 4, without any gradient"):
        optimise(wires, full(9), optimizer="cma")
    assert modes == ["low", "fast", "auto"]


@pytest.mark.parametrize("memory", ["low", "fast"])
def test_where_memory_runs_out_later_the_best_so_far_is_kept(wires, memory):
    def by(z, n):
        if n == 3:
            raise torch.OutOfMemoryError("no room")
        return spread(z)

    wires["sampler"] = DifferentiableSampler(wires["sampler"], memory)
    noise, latent, _, _, report, _ = optimise(wires, by)
    assert "2 iterations" in report and "stopped because memory ran out" in report
    assert spread(latent["samples"]) > spread(sampled(wires | {"sampler": wires["sampler"].sampler}))
    assert sampled(wires | {"noise": noise}).equal(latent["samples"])


@pytest.mark.parametrize("at", [0, 3])
def test_cancel_in_the_middle_of_a_run_keeps_the_best_where_asked(wires, at):
    def by(z, n):
        if n == at:
            raise comfy.model_management.InterruptProcessingException
        return spread(z)

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        optimise(wires, by)
    if at:
        noise, latent, _, _, report, _ = optimise(wires, by, on_cancel="keep the best")
        assert spread(latent["samples"]) > spread(sampled(wires)) and "cancelled" in report
        again = sampled(wires | {"noise": noise})
        assert again.equal(latent["samples"])


def test_the_optimiser_without_gradient_works_where_a_model_has_none(wires):
    def blind(z, _):
        return spread(z.detach())

    with pytest.raises(RuntimeError, match="optimizer to cma"):
        optimise(wires, blind)
    *_, report, _ = optimise(wires, blind, optimizer="cma", population=3, learning_rate=0.02)
    before, after = (float(word) for word in report.splitlines()[0].replace(",", "").split() if word[0].isdigit())
    assert after > before


def test_a_picture_that_loses_its_quality_is_put_back_alone(wires):
    def quality(z, n):
        return torch.tensor([1.0, 0.5 if n == 2 else 1.0])

    both = Told(by=spread) + Told(by=quality, name="quality", kind="quality")
    *_, report, _ = optimise(wires, both)
    assert "Picture 2 was put back 1 x" in report and "Picture 1 was" not in report


def test_image_to_image_with_a_mask_moves_only_what_the_mask_frees(wires):
    content = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 4, 4)
    mask[:, :2] = 1
    wires["latent_image"] = {"samples": content, "noise_mask": mask}
    noise, latent, *_ = optimise(wires, spread, iterations=2)
    torch.testing.assert_close(latent["samples"][:, :, 2:], content[:, :, 2:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(latent["samples"][:, :, :2], content[:, :, :2], atol=1e-2)
    start = wires["noise"].generate_noise(wires["latent_image"])
    assert noise.samples[:, :, 2:].equal(start[:, :, 2:]) and noise.samples[:, :, :2].ne(start[:, :, :2]).all()


def test_no_picture_output_is_faked_without_a_vae(wires):
    blocked = optimise(wires, spread, iterations=0)[2]
    assert "wire a VAE" in blocked.message


@dataclass(frozen=True, kw_only=True)
class Spread(Told):
    """A diversity of a recipe by its name alone."""

    by: Callable = lambda latents, _: latents.mean()
    name: str = recipes.DPP


def test_a_preset_is_the_recipe_and_the_report_says_what_is_otherwise(wires, monkeypatch):
    recipe = replace(recipes.RECIPES["FLUX.1 schnell, pink noise"], iterations=2)
    monkeypatch.setitem(recipes.RECIPES, "FLUX.1 schnell, pink noise", recipe)
    other = {"iterations": 7, "optimizer": "adam", "whiteness_weight": 1.0, "look_at": "first prediction"}
    noise, _, _, _, report, _ = optimise(wires, Spread(), preset="FLUX.1 schnell, pink noise", **other)
    expected = recipe.settings(Spread(), 2)
    assert {name: noise.settings[name] for name in expected} == expected
    assert noise.settings["preset"] == "FLUX.1 schnell, pink noise"
    assert noise.settings["look_at"] == "finished picture"
    assert "2 iterations" in report
    told = report.partition("released code):")[2].splitlines()
    for line in (
        "starting noise: pink, alpha 0.2 in the recipe, white here",
        "steps: 1 in the recipe, 2 here",
        "pictures at once: 4 in the recipe, 2 here",
        "latent: 16 x 64 x 64 in the recipe, 4 x 4 x 4 here",
        "HPSv2.1: weight 2.38 in the recipe, not wired here",
        *recipe.differs,
    ):
        assert line.split(" weight")[0] in "\n".join(told)
    assert all(line.startswith("- ") for line in told if line)
    assert "Preset" not in optimise(wires, Spread())[4]


def test_a_preset_of_one_picture_at_a_time_makes_as_many_as_published_each_with_its_own_clip(wires, monkeypatch):
    recipe = replace(recipes.RECIPES["FLUX.1 schnell, one at a time"], iterations=0, total=3)
    monkeypatch.setitem(recipes.RECIPES, "FLUX.1 schnell, one at a time", recipe)
    seen, loop = [], run.optimize
    monkeypatch.setattr(run, "optimize", lambda *args: seen.append(args[3].clip) or loop(*args))
    one = wires | {"latent_image": tiny_models.latent("sdxl", 4, 4, 1)}
    latent = optimise(one, Spread(), preset="FLUX.1 schnell, one at a time")[1]
    assert len(latent["samples"]) == 3
    assert seen == [recipe.clip(Spread(), compared) for compared in (1, 2, 3)]
    fewer = optimise(one, Spread(), preset="FLUX.1 schnell, one at a time", total_pictures=2)[1]
    assert len(fewer["samples"]) == 2

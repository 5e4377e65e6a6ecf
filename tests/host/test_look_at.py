"""Where the loop of Noise Optimize looks, what that costs, and that the result is what the finished pictures are."""

from __future__ import annotations

import json
import re
from typing import Any

import comfy.samplers
import comfy_extras.nodes_custom_sampler as samplers
import pytest
import tiny_models
import torch
from told import Told, spread

from noise_optimize.nodes.host.recall import Recall
from noise_optimize.nodes.host.session import Session, run_in_session
from noise_optimize.nodes.monitor import Monitor
from noise_optimize.nodes.optimize import NoiseOptimize
from noise_optimize.noise.bill import ALWAYS, AUTOMATIC, FINISHED, FIRST, IN_DOUBT, LAST, LOOKS
from noise_optimize.noise.optimizers import OPTIMIZERS
from noise_optimize.objectives.objective import Objective

NODE = NoiseOptimize.PREPARE_CLASS_CLONE(None)
LARGE = {"optimizer": "large steps", "learning_rate": 0.35, "iterations": 2}
STEPS = 4


def wired(name: str = "sdxl", sampler: str = "euler", steps: int = STEPS, cfg: float = 1.0) -> dict[str, Any]:
    with torch.inference_mode():
        model = tiny_models.model(name)
        positive, negative = (tiny_models.conditioning(name, seed, 1) for seed in (0, 1))
        return {
            "noise": samplers.RandomNoise.execute(1).args[0],
            "guider": samplers.CFGGuider.execute(model, positive, negative, cfg).args[0],
            "sampler": samplers.KSamplerSelect.execute(sampler).args[0],
            "sigmas": samplers.BasicScheduler.execute(model, "simple", steps, 1.0).args[0],
            "latent_image": tiny_models.latent(name, 4, 4, 2),
        }


@torch.inference_mode()
def optimise(wires: dict[str, Any], by: Any = spread, **widgets: Any) -> Any:
    objective = by if isinstance(by, Objective) else Told(by=by)
    return NODE.execute(**wires, objective=objective, **LARGE | widgets).args


@torch.inference_mode()
def sampled(wires: dict[str, Any]) -> torch.Tensor:
    return samplers.SamplerCustomAdvanced.execute(**wires).args[0]["samples"]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the node says while it runs."""
    texts: list[str] = []
    show = Monitor.show

    def shown(self: Monitor, images: Any, text: str, count: int | None = None) -> None:
        texts.append(text)
        show(self, images, text, count)

    monkeypatch.setattr(Monitor, "show", shown)
    return texts


def probed(wires: dict[str, Any], calls: list[bool]) -> dict[str, Any]:
    """These wires once their model was probed, which is done before its first gradient in a process (probe.py)."""
    optimise(wires, iterations=1)
    calls.clear()
    return wires


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows by one for each prediction that a sampler asks the guider for: whether it has a gradient."""
    asked: list[bool] = []
    predict = comfy.samplers.CFGGuider.predict_noise

    def counting(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        asked.append(torch.is_grad_enabled() and x.requires_grad)
        return predict(self, x, *args, **kwargs)

    monkeypatch.setattr(comfy.samplers.CFGGuider, "predict_noise", counting)
    return asked


@pytest.mark.parametrize(
    "widgets, sampler, steps, forward, through",
    [
        ({}, "euler", 4, 2 + 4, 2),
        ({"iterations": 5}, "euler", 8, 5 + 8, 5),
        ({}, "heun", 4, 2 + 7, 2),
        ({}, "euler", 1, 3, 2),
        ({"look_at": FIRST, "optimizer": "sgd", "learning_rate": 0.01}, "euler", 4, 2 + 4, 2),
        ({"look_at": FINISHED}, "euler", 4, 12, 8),
        ({"look_at": LAST}, "euler", 4, 12, 4),
        ({"look_at": LAST}, "euler", 1, 3, 2),
        ({"look_at": FIRST, "optimizer": "cma", "population": 3, "iterations": 1}, "euler", 4, 4 + 4, 0),
        ({"optimizer": "cma", "population": 3, "iterations": 1}, "euler", 4, 16, 0),
        ({"iterations": 0}, "euler", 4, 4, 0),
    ],
)
def test_it_costs_the_calls_that_it_says(widgets, sampler, steps, forward, through, said, calls):
    wires = probed(wired(sampler=sampler, steps=steps), calls)
    said.clear()
    plain = {"euler": steps, "heun": 2 * steps - 1}[sampler]
    *_, report, _ = optimise(wires, lambda z, n: 1e-5 * spread(z) + n, **widgets)  # the last that is seen is the best
    assert len(calls) == forward and sum(calls) == through
    expected = f"{(forward + 2 * through) / plain:.3g}"
    assert f"It cost as much as {expected} plain sampling run{'s'[: expected != '1']} of 2 pictures, in " in report
    assert (f"will cost {expected} plain runs of 2, at most " in said[0]) == (widgets.get("iterations") != 0)


@pytest.mark.parametrize("look_at", LOOKS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_an_iteration_it_is_the_hosts_own_sampler_wherever_it_looks(look_at, optimizer):
    wires = wired(cfg=2.0)
    noise, latent, *_ = optimise(wires, look_at=look_at, optimizer=optimizer, iterations=0)
    assert latent["samples"].equal(sampled(wires))
    assert noise.samples.equal(wires["noise"].generate_noise(wires["latent_image"]))


def test_a_graph_from_before_the_widget_means_what_it_meant_and_a_new_node_looks_at_the_first_prediction():
    wires = wired()
    for optimizer in (name for name, row in OPTIMIZERS.items() if not row.settles):
        old = {"optimizer": optimizer, "learning_rate": 0.004, "population": 3}
        before, filled = (optimise(wires, **old, **more)[0] for more in ({}, {"look_at": AUTOMATIC}))
        explicit = optimise(wires, **old, look_at=FINISHED)[0]
        assert before.samples.equal(explicit.samples) and filled.samples.equal(explicit.samples)
        assert before.settings["look_at"] == FINISHED
    fresh = {each.id: each for each in NODE.define_schema().inputs}
    assert (
        list(fresh)[-4:] == ["look_at", "compare_with_start", "keep", "kept_from"]
        and fresh["look_at"].optional
        and fresh["look_at"].default == AUTOMATIC
    )
    defaults = {name: fresh[name].default for name in ("optimizer", "learning_rate", "iterations", "look_at")}
    assert optimise(wires, **defaults)[0].settings["look_at"] == FIRST
    assert not any(fresh[name].optional for name in ("optimizer", "learning_rate", "iterations")), "graphs have them"


def test_a_saved_workflow_from_before_the_widget_means_what_it_meant():
    """The frontend gives values in their order, and a widget that is not there its default."""
    saved = [2, 0.004, "sgd", 4, "full", 0.1, 0.1, 0, "as set here", 0, "stop the graph", 0.9, 0.333, 0, 8]
    listed = [each for each in NODE.define_schema().inputs if hasattr(each, "default") and each.default is not None]
    assert [each.id for each in listed[len(saved) :]] == ["look_at", "compare_with_start", "keep", "kept_from"]
    loaded = dict(zip((each.id for each in listed), [*saved, AUTOMATIC, IN_DOUBT, "", ""], strict=True))
    wires = wired()
    old = {name: loaded[name] for name in loaded if name != "look_at"}
    assert optimise(wires, **loaded)[0].samples.equal(optimise(wires, **old)[0].samples)
    assert optimise(wires, **loaded)[0].samples.equal(optimise(wires, **loaded | {"look_at": FINISHED})[0].samples)


@pytest.mark.parametrize("name", ["sdxl", "flux_schnell"])
@pytest.mark.parametrize("look_at", [FIRST, LAST, FINISHED])
def test_what_it_hands_out_is_what_any_sampler_makes_of_the_noise_bit_for_bit(name, look_at):
    wires = wired(name, cfg=2.0 if name == "sdxl" else 1.0)
    noise, latent, *_, report, _ = optimise(wires, look_at=look_at)
    assert sampled(wires | {"noise": noise}).equal(latent["samples"])
    assert not latent["samples"].equal(sampled(wires)), report
    radius = noise.samples.flatten(1).norm(dim=1) / (noise.samples[0].numel() - 1) ** 0.5
    torch.testing.assert_close(radius, torch.ones(2), rtol=0.01, atol=0)


def told_finished(*scores: float) -> Any:
    """The loop sees a rise by 1 an iteration; then these are the scores of what is rendered, one after another."""

    def by(z: torch.Tensor, n: int) -> torch.Tensor:
        return 1e-5 * spread(z) + (n if n <= LARGE["iterations"] else scores[n - LARGE["iterations"] - 1])

    return by


def test_where_the_finished_pictures_keep_the_promise_the_start_is_not_rendered(calls):
    wires = probed(wired(), calls)
    *_, report, _ = optimise(wires, told_finished(1.1))
    assert len(calls) == 2 + STEPS and "so the start is returned" not in report
    assert re.search(r"told: 0\.\d+ before, 2\.0\d+ after as first predicted, 1\.1\d+ finished", report)


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "heun", "dpmpp_2m"])
def test_a_rendering_asks_for_nothing_that_the_look_at_its_noise_has_asked_and_is_the_same_bit_for_bit(sampler, calls):
    wires = wired(sampler=sampler, cfg=2.0)

    def both(session: Session) -> None:
        noise = wires["noise"].generate_noise(wires["latent_image"])
        foreseen, latents = session.predicted(noise, 1).latents, session.generate(noise)
        calls.clear()
        recall = Recall()
        assert session.predicted(noise, 1, recall=recall).latents.equal(foreseen)
        looked = len(calls)
        assert session.generate(noise, recall).equal(latents)
        assert looked == recall.spared == len(calls) + looked - session.calls() > 0
        other = session.generate(noise + 1, recall)
        assert not other.equal(latents) and other.equal(session.generate(noise + 1)) and recall.spared == 0

    names = ("guider", "sampler", "sigmas", "latent_image")
    run_in_session(*(wires[name] for name in names), both, seed=wires["noise"].seed)


def test_a_patched_model_is_asked_every_time(calls):
    wires = wired()
    wires["guider"].model_options["sampler_post_cfg_function"] = [lambda args: args["denoised"]]
    optimise(wires, iterations=1)
    calls.clear()
    *_, report, _ = optimise(wires, lambda z, n: 1e-5 * spread(z) + n)
    assert f"{(2 * 3 + 1 + STEPS) / STEPS:.3g} plain sampling runs" in report


def test_where_an_earlier_iteration_was_better_than_the_last_it_is_rendered_again(calls):
    wires = probed(wired(), calls)
    scores = 0.0, 5.0, 1.0, 4.0  # the second iteration gets worse; the first keeps its promise
    noise, latent, *_, report, numbers = optimise(wires, lambda z, n: 1e-5 * spread(z) + scores[n])
    assert json.loads(numbers)[0]["kept"] == 1 and len(calls) == 2 + 1 + STEPS
    assert sampled(wires | {"noise": noise}).equal(latent["samples"])
    assert f"{(2 * 3 + 1 + STEPS) / STEPS:.3g} plain sampling runs" in report


@pytest.mark.parametrize("found, start, kept", [(0.9, 0.5, True), (0.9, 0.95, False), (-5.0, -4.0, False)])
def test_what_may_be_worse_is_compared_with_the_start_as_rendered_and_the_better_is_returned(found, start, kept, calls):
    wires = probed(wired(), calls)
    noise, latent, *_, report, numbers = optimise(wires, told_finished(found, found, start))
    cost = (2 * 3 + 2 * STEPS) / STEPS
    assert len(calls) == 2 + 2 * STEPS and f"{cost:.3g} plain sampling runs" in report
    assert latent["samples"].equal(sampled(wires)) != kept and ("so the start is returned" in report) != kept
    assert sampled(wires | {"noise": noise}).equal(latent["samples"])
    assert noise.samples.equal(wires["noise"].generate_noise(wires["latent_image"])) != kept
    assert json.loads(numbers)[0]["kept"] == (2 if kept else 0)
    assert noise.scores["finished"]["told"] == pytest.approx(found if kept else start, abs=0.01)


@pytest.mark.parametrize("start, kept", [(2.5, False), (1.0, True)])
def test_who_compares_always_never_gets_worse_than_the_start(start, kept, calls, said):
    wires = probed(wired(), calls)
    said.clear()
    asked = told_finished(1.9, 1.9, start)
    _, latent, *_, report, _ = optimise(wires, asked, compare_with_start=ALWAYS)
    assert len(calls) == 2 + 2 * STEPS and said[0].startswith("will cost 3.5 plain runs")
    assert "as much as 3.5 plain sampling runs" in report and ("so the start is returned" in report) != kept
    assert latent["samples"].equal(sampled(wires)) != kept


def test_finished_pictures_that_break_are_not_returned():
    wires = wired()
    noise, latent, *_, report, _ = optimise(wires, told_finished(float("nan"), float("nan"), 0.0))
    assert latent["samples"].equal(sampled(wires)) and "so the start is returned" in report
    assert noise.samples.isfinite().all()


def test_a_set_of_several_batches_is_told_as_predicted_and_as_finished():
    wires = wired()
    noise, latent, *_, report, numbers = optimise(wires, total_pictures=4)
    assert len(latent["samples"]) == len(noise.samples) == 4
    assert re.search(r"told: .* before, .* after as first predicted, .* finished", report)
    assert [batch["pictures"] for batch in json.loads(numbers)] == [[1, 2], [3, 4]]
    assert f"{(2 * 3 + STEPS) / STEPS:.3g} plain sampling runs of 4 pictures" in report
    again = sampled(wires | {"noise": noise, "latent_image": tiny_models.latent("sdxl", 4, 4, 4)})
    torch.testing.assert_close(again, latent["samples"], rtol=1e-4, atol=1e-4)


def test_under_a_mask_only_what_is_free_moves():
    wires = wired()
    mask = torch.zeros(1, 4, 4)
    mask[:, :2] = 1
    content = torch.randn(2, 4, 4, 4, generator=tiny_models.generator())
    wires["latent_image"] = {"samples": content, "noise_mask": mask}
    noise, latent, *_ = optimise(wires)
    start = wires["noise"].generate_noise(wires["latent_image"])
    assert noise.samples[:, :, 2:].equal(start[:, :, 2:]) and noise.samples[:, :, :2].ne(start[:, :, :2]).all()
    torch.testing.assert_close(latent["samples"][:, :, 2:], content[:, :, 2:], rtol=1e-4, atol=1e-4)
    assert sampled(wires | {"noise": noise}).equal(latent["samples"])


def test_a_picture_that_loses_its_quality_is_put_back_alone():
    def quality(z: torch.Tensor, n: int) -> torch.Tensor:
        return torch.tensor([1.0, 0.5 if n == 1 else 1.0])

    both = Told(by=spread) + Told(by=quality, name="quality", kind="quality")
    *_, report, _ = optimise(wired(), both)
    assert "Picture 2 was put back 1 x" in report and "Picture 1 was" not in report


def test_nan_in_one_prediction_is_told_and_the_noise_stays_finite():
    noise, latent, _, _, report, _ = optimise(wired(), lambda z, n: spread(z) * (float("nan") if n == 1 else 1))
    assert "learning rate halved" in report
    assert noise.samples.isfinite().all() and latent["samples"].isfinite().all()

"""The shipped demo, through the host's own loaders and on a reduced set of the evaluation, with margins."""

import sys
from types import SimpleNamespace

import comfy.samplers
import comfy.supported_models
import pytest
import torch
from pack import ROOT

from noise_optimize.nodes import demo as nodes
from noise_optimize.noise import Settings, load_set

sys.path.append(str(ROOT / "tests" / "demo"))
import drawings
import evaluate
import find_sets
import judge as judging
import models

ASSETS = ROOT / "assets" / "demo"
SEEDS = 1


@pytest.fixture(scope="module")
def bench() -> evaluate.Bench:
    return evaluate.Bench(SEEDS)


@pytest.fixture(scope="module")
def student(bench) -> dict[str, float]:
    return bench.judged(bench.sampled(bench.student, bench.noise).pictures)


def loaded(model: str):
    return nodes.LoadDemo.execute(model).result


def test_everything_shipped_fits_in_twelve_megabytes():
    shipped = [*ASSETS.glob("*.safetensors"), judging.PATH]
    assert len(shipped) == 8
    assert sum(file.stat().st_size for file in shipped) <= 12e6


@pytest.mark.parametrize(("model", "steps"), [(name, 4) for name in nodes.MODELS])
def test_the_hosts_own_loader_and_sampler_give_what_plain_torch_gives(model, steps):
    patcher, vae, _ = loaded(model)
    assert isinstance(patcher.model.model_config, comfy.supported_models.FluxSchnell)
    conditioning, _ = nodes.DemoPrompt.execute(nodes.PROMPTS[3]).result
    noise = evaluate.white(0)
    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", steps)
    assert torch.allclose(sigmas, torch.linspace(1, 0, steps + 1), atol=2e-3)
    guider = comfy.samplers.CFGGuider(patcher)
    guider.set_conds(conditioning, conditioning)
    guider.set_cfg(1.0)
    latents = guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, seed=0)
    pictures = vae.decode(latents).movedim(-1, 1)
    with torch.no_grad():
        plain = models.load(nodes.MODELS[model]).sample(noise, torch.full((4,), 3), steps=steps)
    assert torch.allclose(latents, plain.latents, atol=2e-3 * plain.latents.std())
    assert torch.allclose(pictures, plain.pictures, atol=5e-3)


def test_the_vae_gives_a_drawing_back():
    _, vae, _ = loaded(next(iter(nodes.MODELS)))
    rows = drawings.sample_attributes(torch.arange(8), evaluate.generator(1))
    pictures = drawings.draw(rows, evaluate.generator(2))
    latents = vae.encode(pictures.movedim(1, -1))
    assert latents.shape == (8, 16, 8, 8)
    error = (vae.decode(latents).movedim(-1, 1) - pictures).square().mean()
    assert -10 * error.log10() > 23


def test_the_prompt_set_in_demo_prompt_goes_by_wire_to_demo_score():
    """So that it is set once in a graph: the output is of the kind that the widget takes."""
    output, widget = nodes.DemoPrompt.GET_SCHEMA().outputs[1], nodes.DemoScoreNode.GET_SCHEMA().inputs[0]
    assert (output.io_type, output.display_name) == (widget.io_type, widget.id) == ("COMBO", "prompt")
    _, prompt = nodes.DemoPrompt.execute(nodes.PROMPTS[0], nodes.PROMPTS[3]).result
    assert nodes.DemoScoreNode.execute(prompt, 1.0, {"target": "none"}).args[0].prompt == 3


def test_the_prompts_of_the_node_are_those_of_the_drawings():
    assert nodes.PROMPTS == drawings.PROMPTS


def test_the_judge_is_right_on_real_drawings_rare_looks_included(bench):
    rows = drawings.sample_attributes(torch.arange(8).repeat_interleave(64), evaluate.generator(21), uniform=True)
    right = judging.attributes(bench.judge, drawings.draw(rows, evaluate.generator(22))) == rows
    assert (right.double().mean(0) > 0.95).all()


def test_the_student_is_recognised():
    many = evaluate.Bench(seeds=12)
    assert many.judged(many.sampled(many.student, many.noise).pictures)["adherence"] >= 0.9


def test_the_student_is_less_varied_than_its_teacher(bench, student):
    free = bench.judged(bench.sampled(bench.teacher, bench.noise, steps=models.TEACHER_STEPS).pictures)
    assert student["vendi"] < 0.8 * free["vendi"]


def test_optimisation_recovers_variety_and_keeps_the_prompt(bench, student):
    objective = bench.objective(*bench.main_diversity())
    made = bench.judged(bench.optimised(objective, Settings(iterations=20, rollback=1.0), (20,))[20][0].pictures)
    assert made["pairwise"] >= 1.3 * student["pairwise"]
    assert made["vendi"] >= 1.35 * student["vendi"]
    assert made["adherence"] >= student["adherence"] - 0.05


def test_the_shipped_set_makes_prompts_differ_that_it_has_never_seen():
    kept = load_set(find_sets.SHIPPED)
    unseen = [drawings.PROMPTS.index(name) for name in ("a flower in a pot", "a sailing boat")]
    assert not {"a flower in a pot", "a sailing boat"} & {*kept.prompts, *kept.unseen}
    assert kept.settings["layout"] == find_sets.host_layout()
    bench = find_sets.Bench(SimpleNamespace(draws=1))
    plain, mixed = (bench.judged(kept, unseen, strength, bench.student) for strength in (0.0, 0.5))
    assert mixed["vendi"].mean() > plain["vendi"].mean() + 0.4
    assert mixed["adherence"].mean() > plain["adherence"].mean() - 0.07

"""Find Noise Set in the host: prompts by turns, each in a session of its own, on a tiny model and on the demo's."""

from types import SimpleNamespace

import comfy.model_management
import comfy.samplers
import pytest
import tiny_models
import told
import torch

from noise_optimize.nodes import finding
from noise_optimize.nodes.demo import DRAWN, DemoPrompt, DemoScoreNode, LoadDemo
from noise_optimize.nodes.find_set import DRAFT, KEEP, STOP, WHOLE, FindNoiseSet, spread
from noise_optimize.nodes.host import layout
from noise_optimize.nodes.host.session import Session
from noise_optimize.nodes.latents import ColouredNoise, SetNoise
from noise_optimize.noise.coloured import Spectrum
from noise_optimize.noise.patterns import NoiseSet
from noise_optimize.objectives import Diversity, LatentFeatures
from noise_optimize.objectives.demo import PROMPTS

WIDGETS = {
    "patterns": 4, "iterations": 2, "cfg": 1.0, "learning_rate": 0.1, "gradient": WHOLE, "held_out": 1, "loss": 1.0,
    "band": 0.333, "optimizer": "sgd", "momentum": 0.0, "seed": 0, "on_cancel": KEEP,
}  # fmt: skip


@pytest.fixture(autouse=True)
def node(monkeypatch):
    """The node, as the host makes it for a run."""
    monkeypatch.setattr(
        FindNoiseSet, "hidden", SimpleNamespace(unique_id=None, prompt=None, extra_pnginfo=None), raising=False
    )


def graph(name="flux_schnell", count=3, batch=4, steps=2, **more):
    """Lists of one value for each wire, and of all prompts for the conditioning, as the host gives them."""
    model = tiny_models.model(name)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    inputs = {
        "model": model,
        "sampler": comfy.samplers.sampler_object("euler"),
        "sigmas": sigmas,
        "latent_image": tiny_models.latent(name, 8, 8, batch),
        "objective": Diversity(features=LatentFeatures(grid=4), statistic="vendi"),
        **WIDGETS,
    }
    lists = {name: [value] for name, value in inputs.items()}
    lists["conditioning"] = [tiny_models.conditioning(name, seed, 1) for seed in range(count)]
    return lists | {name: value if isinstance(value, list) else [value] for name, value in more.items()}


def run(**lists):
    with torch.inference_mode():
        return FindNoiseSet.execute(**lists)


def test_a_set_is_found_and_says_of_what_it_is():
    noise, images, plot, report = run(**graph()).args
    found = noise.found
    assert isinstance(noise, SetNoise) and found.coefficients.shape == (4, 16, 3, 3)
    assert (found.model, found.latent_format, found.size) == ("Flux", "Flux", (8, 8))
    assert (found.prompts, found.unseen) == (("prompt 1", "prompt 3"), ("prompt 2",))
    assert found.scores.keys() == {"plain", "set"} and found.settings["iterations"] == 2
    assert found.settings["iteration"] in (0, 2) and found.settings["layout"] == layout(
        tiny_models.model("flux_schnell")
    )
    assert "wire a VAE" in images.message and plot.shape[-1] == 3
    assert "prompt 2" in report and "plain sampling runs of 4 pictures" in report
    made = noise.generate_noise({"samples": torch.zeros(2, 16, 12, 6)})
    assert made.shape == (2, 16, 12, 6) and made.isfinite().all()


def test_what_it_costs_is_counted_in_plain_runs():
    """2 iterations of 2 prompts: 4 gradients of 3 runs; 4 looks plain, 4 at the start and 4 at the end."""
    whole, draft = (run(**graph(gradient=gradient, steps=4)).args[3] for gradient in (WHOLE, DRAFT))
    assert f"{4 * 3 + 12} plain sampling runs of 4 pictures" in whole
    assert f"{4 * 3 // 4 + 12} plain sampling runs of 4 pictures" in draft


def test_it_is_the_same_again_and_with_fewer_pictures_at_once_it_is_found_too():
    one, again, small = (run(**graph(batch=batch)).args[0].found for batch in (4, 4, 2))
    assert one.coefficients.equal(again.coefficients)
    assert small.coefficients.shape == one.coefficients.shape


def test_the_host_is_as_before():
    lists = graph()
    before = {name: value.clone() for name, value in lists["model"][0].model.state_dict().items()}
    state = torch.get_rng_state()
    run(**lists)
    assert torch.get_rng_state().equal(state) and not comfy.model_management.in_training
    after = lists["model"][0].model.state_dict()
    assert all(after[name].equal(value) for name, value in before.items())


def test_where_memory_runs_out_it_goes_on_with_low_from_there(monkeypatch):
    modes, start = [], Session.__init__
    monkeypatch.setattr(Session, "__init__", lambda self, w, s, *a: modes.append(s.memory) or start(self, w, s, *a))

    def by(latents, n):
        if n == 6:
            raise torch.OutOfMemoryError("no room")
        return told.spread(latents)

    run(**graph(objective=told.Told(by=by)))
    before = modes.index("low")
    assert set(modes[:before]) == {"auto"} and set(modes[before:]) == {"low"}


def cancelled(monkeypatch, at, **more):
    shown = finding.Search.watch

    def watch(self, found):
        shown(self, found)
        if found.iteration == at:
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(finding.Search, "watch", watch)
    return run(**graph(iterations=8, **more))


def test_cancel_keeps_the_best_so_far_or_stops_the_graph(monkeypatch):
    noise, *_, report = cancelled(monkeypatch, 6).args
    assert noise.found.settings["iteration"] in (0, 5) and "It was cancelled." in report
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        cancelled(monkeypatch, 6, on_cancel=STOP)


def test_it_goes_on_from_a_set():
    first = run(**graph()).args[0]
    more = run(**graph(noise=first, iterations=0, patterns=9)).args[0]
    torch.testing.assert_close(more.found.coefficients, first.found.coefficients, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "wrong,reason",
    [
        ({"count": 2}, "conditioning gets 2 of at least 3 prompts: wire a Prompt List"),
        ({"held_out": 2}, "held_out is 2 of 3 prompts; keep at least 2"),
        ({"prompts": ["a", "b"]}, "prompts gets 2 texts for 3 conditionings; wire the same Prompt List"),
        ({"batch": 1}, "latent_image holds 1 picture, which differs from nothing; raise its batch"),
        ({"noise": ColouredNoise(0, Spectrum())}, "noise is no noise set; wire Noise Set or Load Noise"),
        (
            {"noise": SetNoise(NoiseSet(torch.randn(4, 4, 3, 3), model="SDXL"), 0)},
            "found for latents of 4 channels of SDXL, and the model has 16",
        ),
        ({"sampler": comfy.samplers.sampler_object("dpm_adaptive")}, "no exact gradient: wire another sampler"),
        (
            {"latent_image": {"samples": torch.zeros(2, 16, 8, 8), "noise_mask": torch.ones(1, 8, 8)}},
            "latent_image has a mask, and a set is for whole pictures; wire an empty latent",
        ),
        ({"patterns": 3}, "patterns is 3; set it to a whole number from 4"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_graph_is_told_in_a_sentence(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        run(**graph(**wrong))


def test_negatives_are_one_for_all_or_one_for_each():
    other = [tiny_models.conditioning("sdxl", 9, 1)]
    plain, guided = (
        run(**graph("sdxl", cfg=3.0, iterations=0, **more)).args[0].found for more in ({}, {"negative": other})
    )
    assert plain.scores != guided.scores
    with pytest.raises(ValueError, match="negative gets 2 conditionings for 3 prompts; wire one, or one for each"):
        run(**graph("sdxl", negative=other * 2))


@pytest.mark.parametrize("count,wanted,places", [(32, 8, [2, 6, 10, 14, 18, 22, 26, 30]), (8, 2, [2, 6]), (3, 1, [1])])
def test_the_prompts_kept_out_are_spread_over_the_list(count, wanted, places):
    assert spread(count, wanted) == places


def test_on_the_demo_model_objectives_get_the_prompt_that_is_drawn_and_pictures_are_shown():
    model, vae, features = LoadDemo.execute("few-step (4 steps, cfg 1)").args
    texts = list(PROMPTS[:4])
    conditionings = [DemoPrompt.execute(PROMPTS[0], text).args[0] for text in texts]
    target = {"target": "at least", "value": 0.97}
    score = DemoScoreNode.execute(DRAWN, 1.0, target).args[0]
    with pytest.raises(ValueError, match="Demo Score has no prompt: write one into it"):
        score.measure(None)
    lists = graph(
        model=model,
        conditioning=conditionings,
        vae=vae,
        prompts=texts,
        objective=Diversity(features=features, statistic="vendi") + score,
        patterns=8,
        iterations=1,
    )
    noise, images, _, report = run(**lists).args
    assert noise.found.unseen == ("a flower in a pot",)
    assert images.shape == (1, 128, 512, 3) and images.min() >= 0 and images.max() <= 1
    assert 0.5 < noise.found.scores["plain"]["Demo Score"] <= 1 and "Demo Score on them" in report
    with pytest.raises(ValueError, match="text is 'a dog', which the demo model cannot draw"):
        DemoPrompt.execute(PROMPTS[0], "a dog")

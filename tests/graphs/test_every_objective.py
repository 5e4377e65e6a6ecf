"""Every objective of the pack, through its real nodes and loaders in a running ComfyUI, raises its own score.

The networks are in the layouts of the published ones and have random weights (tests/support/tiny_networks.py): what
is tested is that each carries the gradient from its score to the noise of a UNet and of a DiT. To save time each
objective runs in two of the four combinations: from white noise on one of the models, from pink on the other.
"""

import pytest
from graph import NO_TARGET, before_and_after, diversity, fresh, node, optimise, optimise_graph

ITERATIONS = {"sdxl": 10, "flux_schnell": 5}  # of the default step; this UNet answers to less of its noise
SHARE = 0.04  # a score in 0..1 must rise by this share of itself or of what is left to 1, whichever is less
MARGINS = {"CLIP Score": 0.02, "HPSv2.1": 0.015, "PickScore": 1.5, "Aesthetic": 0.2, "Detail Guard": 0.02}  # the others
PROMPT = "a photo of a cat"
NETWORK = {"precision": "auto", "chunk": 8}
CLIP = {"model": "ViT-B-32/laion2b_s34b_b79k", "other_model": "", **NETWORK}
COUNTED = {"weight": 1.0, **NO_TARGET}
FEATURES = {  # nodes that need more than their defaults to be tested; any other is tested as it is when it is added
    "dino": node("NoiseOptimizeDINOFeatures", model="DINOv2 ViT-S/14", tokens="patches", size=56, **NETWORK),
    "dreamsim": node("NoiseOptimizeDreamSimFeatures", model="ensemble", chunk=8),
    "clip": node("NoiseOptimizeCLIPFeatures", **CLIP),
    "clip vision": node(
        "NoiseOptimizeCLIPVisionFeatures", clip_vision=["seer", 0], tokens="pooled", crop=False, size=0, chunk=8
    ),
    "demo": node("NoiseOptimizeLoadDemo", model="few-step (4 steps, cfg 1)"),
}
SCORES = {
    "LPIPS AlexNet": node("NoiseOptimizeLPIPS", network="AlexNet", size=64, **COUNTED, **NETWORK),
    "LPIPS VGG": node("NoiseOptimizeLPIPS", network="VGG", size=32, **COUNTED, **NETWORK),
    "LPIPS SqueezeNet": node("NoiseOptimizeLPIPS", network="SqueezeNet", size=64, **COUNTED, **NETWORK),
    "CLIP Score": node("NoiseOptimizeCLIPScore", prompt=PROMPT, **COUNTED, **CLIP),
    "HPSv2.1": node("NoiseOptimizePreference", prompt=PROMPT, model="HPSv2.1", **COUNTED, **NETWORK),
    "PickScore": node("NoiseOptimizePreference", prompt=PROMPT, model="PickScore", **COUNTED, **NETWORK),
    "Aesthetic": node("NoiseOptimizeAesthetic", **COUNTED, **NETWORK),
    "Detail Guard": node("NoiseOptimizeDetailGuard", **COUNTED),
    "Demo Score": node("NoiseOptimizeDemoScore", prompt="a cat", **COUNTED),
}
THROUGH = {"NoiseOptimizeDiversity", "NoiseOptimizeCombine"}  # what features and scores go through
# Pictures of 64 x 64: the demo's networks see no smaller ones, and in 32 x 32 the max pooling of SqueezeNet has so many
# ties that the last bit of the latents decides how far ten steps get. 32 x 32 do for the rest.
ON_LARGER = ("Diversity demo", "Demo Score", "LPIPS SqueezeNet")


@pytest.fixture(scope="module")
def features(server):
    """Every node that gives FEATURES, by a name."""
    return FEATURES | others(server, "NOISE_OPTIMIZE_FEATURES")


@pytest.fixture(scope="module")
def objectives(server, features):
    """Every node that gives an OBJECTIVE, by the name of its score, and Diversity on all features."""
    server.run({"networks": node("TinyNetworks")})
    scores = SCORES | others(server, "NOISE_OPTIMIZE_OBJECTIVE")
    return scores | {f"Diversity {name}": diversity(name, output=2 if name == "demo" else 0) for name in features}


def others(server, socket):
    """The nodes with such an output that are in no table, as they are when they are added."""
    known = THROUGH | {each["class_type"] for each in (FEATURES | SCORES).values()}
    found = {name: described for name, described in server.get("object_info").items() if socket in described["output"]}
    return {described["display_name"]: fresh(name, described) for name, described in found.items() if name not in known}


def test_no_choice_of_a_network_is_forgotten(server):
    for name, choice in (("NoiseOptimizeLPIPS", "network"), ("NoiseOptimizePreference", "model")):
        (kind, options) = server.get("object_info")[name]["input"]["required"][choice]
        chosen = {each["inputs"][choice] for each in SCORES.values() if each["class_type"] == name}
        assert chosen == set(options["options"] if kind == "COMBO" else kind)


@pytest.mark.parametrize(
    ("architecture", "alpha", "odd"),
    [("sdxl", 0.0, False), ("flux_schnell", 0.2, False), ("sdxl", 0.2, True), ("flux_schnell", 0.0, True)],
    ids=["UNet white", "DiT pink", "UNet pink", "DiT white"],
)
def test_every_objective_rises_by_the_stated_margin(server, features, objectives, architecture, alpha, odd):
    wires = optimise_graph(architecture, batch=2, steps=1) | features
    wires["noise"] = node("NoiseOptimizePinkNoise", seed=1, alpha=alpha, spectrum="paper")
    wires["seer"] = node("TinyCLIPVision")
    wires["latent_image"] = node("TinyLatent", architecture=architecture, height=4, width=4, batch=2)
    wires["larger"] = node("TinyLatent", architecture=architecture, height=8, width=8, batch=2)
    names = list(objectives)[odd::2]
    for name in names:
        size = {"latent_image": ["larger", 0]} if name in ON_LARGER else {}
        wires[name] = node("NoiseOptimizeCombine", **{"objectives.objective_1": [f"only {name}", 0]})
        wires[f"only {name}"] = objectives[name]
        wires[f"run {name}"] = optimise(name, iterations=ITERATIONS[architecture], **size)
        wires[f"text {name}"] = node("PreviewAny", source=[f"run {name}", 4])
    run = server.run(wires)
    short = {}
    for name in names:
        ((before, after),) = before_and_after(run.text(f"text {name}")).values()
        if after - before < MARGINS.get(name, SHARE * min(before, 1 - before)):
            short[name] = before, after
    assert not short

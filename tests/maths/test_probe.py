"""The probe of a gradient tells a right one from a wrong one, in every precision."""

import pytest
import torch

from noise_optimize.noise.gradient.probe import Probe, probe

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(dtype, blocks=6, width=64):
    """A residual network of two paths in each block, the second of which a gradient may miss."""
    source = generator()
    weights = [torch.randn(2, width, width, generator=source).to(dtype) / width**0.5 for _ in range(blocks)]

    def run(x, second=lambda t: t):
        x = x.to(dtype)
        for one, two in weights:
            x = x + torch.tanh(x @ one) / 2 + second(torch.sin(x @ two) / 2)
        return x.float()

    return run


def point(batch=4, width=64):
    return torch.randn(batch, width, generator=generator(1)).requires_grad_()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_gradient_has_a_share_of_one(dtype):
    run = network(dtype)
    found = probe(run, run, point())
    assert found.right and abs(found.share - 1) < 0.05


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_path_that_the_gradient_misses_is_found(dtype):
    run = network(dtype)
    found = probe(lambda x: run(x, torch.Tensor.detach), run, point())
    assert not found.right and 0.2 < found.share < 0.8


@pytest.mark.parametrize("levels", [127, 15])
def test_rounding_to_few_levels_with_a_straight_gradient_is_not_accused(levels):
    """Activations as quantised kernels round them, the derivative that of the network without rounding."""
    run = network(torch.float32)

    def rounded(x, straight):
        scale = x.detach().abs().amax() / levels
        kept = (x / scale).round() * scale
        return run(x + (kept - x).detach() if straight else kept)

    found = probe(lambda x: rounded(x, True), lambda x: rounded(x, False), point())
    assert found.right


def test_a_gradient_of_nothing_has_a_share_of_zero():
    for function in (lambda x: x.detach() * 2 + 0 * x, lambda x: x.detach() * 2):
        found = probe(function, lambda x: x * 2, point())
        assert found.share == 0 and not found.right


def test_what_jumps_at_every_step_is_not_judged():
    assert probe(lambda x: x, lambda x: torch.sin(1e4 * x), point()) is None


def test_only_what_asks_for_a_gradient_is_moved():
    fixed = torch.randn(4, 64, generator=generator(2))
    seen = []

    def function(x, scale):
        seen.append(scale)
        return x * scale

    assert probe(function, function, point(), fixed).right
    assert all(torch.equal(scale, fixed) for scale in seen)


def test_it_costs_five_calls_and_a_gradient():
    calls = {"reference": 0, "function": 0}

    def counted(name, x):
        calls[name] += 1
        return torch.tanh(x)

    probe(lambda x: counted("function", x), lambda x: counted("reference", x), point())
    assert calls == {"reference": 5, "function": 1}


def test_writes_in_place_are_allowed():
    def function(x):
        y = torch.tanh(x)
        z = y * y
        y += 1
        return z

    assert probe(function, function, point()).right


@pytest.mark.parametrize("drift", [torch.ones_like, torch.randn_like], ids=["state", "randomness"])
def test_what_answers_differently_when_asked_again_is_not_judged(drift):
    calls = []

    def reference(x):
        calls.append(x)
        return torch.tanh(x) + len(calls) * drift(x)

    assert probe(torch.tanh, reference, point()) is None


def test_a_constant_has_no_share():
    assert probe(lambda x: 0 * x, torch.ones_like, point()) is None


def test_the_kinks_of_a_decoder_are_no_fault():
    """What was measured of the demo's decoder, in float32, where its gradient is exact: the worst of 64 pictures."""
    assert Probe(share=1.051, agreement=0.982).right and not Probe(share=0.9, agreement=0.982).right
    assert not Probe(share=0.97, agreement=0.9999).right

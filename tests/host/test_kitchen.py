"""comfy_kitchen's fused operations in plain torch: the same numbers, with derivatives, and only where asked for."""

import comfy.quant_ops
import pytest
import tiny_models
import torch

from noise_optimize.nodes.host.kitchen import plain_operations

kitchen = comfy.quant_ops.ck


def random(*shape):
    return torch.randn(shape, generator=tiny_models.generator())


ROTATION = random(1, 6, 1, 4, 2, 2)  # of 6 tokens with 8 channels, as models make it
QUERIES, GAIN, ROW = random(2, 6, 2, 8), random(8), random(2, 1, 1, 8)
CALLS = {
    "apply_rope": (QUERIES, QUERIES + 1, ROTATION),
    "apply_rope1": (QUERIES, ROTATION),
    "apply_rope_split_half": (QUERIES, QUERIES + 1, ROTATION),
    "apply_rope_split_half1": (QUERIES, ROTATION),
    "rms_rope": (QUERIES, QUERIES + 1, ROTATION, GAIN, GAIN + 1, 1e-6),
    "rms_rope1": (QUERIES, ROTATION, GAIN),
    "rms_rope_split_half": (QUERIES, QUERIES + 1, ROTATION, GAIN, GAIN + 1, 1e-6),
    "rms_rope_split_half1": (QUERIES, ROTATION, GAIN),
    "adaln": (QUERIES, ROW, ROW + 1),
    "rms_adaln": (QUERIES, ROW, ROW + 1),
}


def every_one_of(tensors):
    return tensors if isinstance(tensors, tuple) else (tensors,)


@pytest.mark.parametrize("name", CALLS)
def test_a_fused_operation_gives_the_same_in_plain_torch_and_its_derivative(name):
    queries, *others = CALLS[name]
    fused = every_one_of(getattr(kitchen, name)(queries, *others))
    with plain_operations():
        plain = getattr(kitchen, name)
        for ours, theirs in zip(every_one_of(plain(queries, *others)), fused, strict=True):
            torch.testing.assert_close(ours, theirs)
        doubles = [t.double() if isinstance(t, torch.Tensor) else t for t in others]
        assert torch.autograd.gradcheck(lambda q: plain(q, *doubles), queries[:1, :, :1].double().requires_grad_())


def test_the_fused_operations_are_back_afterwards_also_after_an_error():
    before = dict(vars(kitchen))
    with pytest.raises(RuntimeError, match="on purpose"), plain_operations():
        assert kitchen.rms_rope is not before["rms_rope"]
        raise RuntimeError("on purpose")
    assert dict(vars(kitchen)) == before


def test_every_operation_between_layers_that_has_a_fused_form_is_known():
    """What comfy_kitchen gains for queries, keys and norms belongs in the table above."""
    names = {name for name in vars(kitchen) if name.startswith(("apply_rope", "rms_", "adaln"))}
    assert {name for name in names if not name.endswith("_")} == set(CALLS)

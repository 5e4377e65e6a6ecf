"""A layer whose weight only passes by has the gradient of one that keeps it."""

import pytest
import torch
from torch import nn

from noise_optimize.noise.gradient.affine import affine

LAYERS = {
    "linear": (nn.Linear(4, 3), (2, 5, 4)),
    "convolution": (nn.Conv2d(4, 3, 3, stride=2, padding=1), (2, 4, 6, 6)),
    "transposed convolution": (nn.ConvTranspose2d(4, 3, 2), (2, 4, 5, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradcheck_and_the_value_and_gradient_of_the_layer_itself(name):
    layer, shape = LAYERS[name]
    layer = layer.double().requires_grad_(False)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: affine(layer, x), (x,))
    weight = torch.randn_like(layer(x))
    (expected,), (grad,) = (torch.autograd.grad(f(x), x, weight) for f in (layer, lambda x: affine(layer, x)))
    assert torch.equal(affine(layer, x), layer(x))
    torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12)


def test_it_keeps_no_tensor():
    kept = []
    x = torch.randn(2, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        affine(nn.Linear(4, 3), x)
    assert not kept


def test_two_layers_may_share_the_buffer_that_their_weights_pass_through():
    weights, buffer = torch.randn(2, 4, 4, dtype=torch.float64).unbind(), torch.empty(4, 4, dtype=torch.float64)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def through_buffer(weight):
        return lambda x: nn.functional.linear(x, buffer.copy_(weight))

    shared = affine(through_buffer(weights[1]), affine(through_buffer(weights[0]), x).tanh())
    own = x.matmul(weights[0].T).tanh().matmul(weights[1].T)
    (expected,), (grad,) = (torch.autograd.grad(y.sin().sum(), x) for y in (own, shared))
    torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12)


def test_the_output_may_be_written_into():
    x = torch.randn(2, 5, 4, requires_grad=True)
    layer = nn.Linear(4, 3).requires_grad_(False)
    output = affine(layer, x)
    output *= 2
    assert torch.equal(torch.autograd.grad(output.sum(), x)[0], torch.autograd.grad(2 * layer(x).sum(), x)[0])


def test_without_gradient_it_is_the_function():
    x = torch.randn(2, 4)
    layer = nn.Linear(4, 3).requires_grad_(False)
    assert torch.equal(affine(layer, x), layer(x)) and not affine(layer, x).requires_grad
    with torch.no_grad():
        assert not affine(layer, x.requires_grad_()).requires_grad

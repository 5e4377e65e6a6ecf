"""The recomputed gradient is the gradient."""

import math
import weakref

import pytest
import torch
from torch import nn

from noise_optimize.noise.gradient.in_place import OutAsWrite, Writes
from noise_optimize.noise.gradient.inference import normal_tensors
from noise_optimize.noise.gradient.recompute import MemoryBudget, RecomputationError, recompute, same
from noise_optimize.noise.gradient.scale import power_of_two, rescaled


class InPlace(nn.Module):
    """A residual block that writes into tensors which autograd has saved."""

    def __init__(self, width=8):
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        y = x * 2
        y += torch.tanh(self.first(self.norm(y)))
        y *= torch.sigmoid(y)
        y -= self.second(y).sin_()
        return y


def out_of_place(block, x):
    y = x * 2
    y = y + torch.tanh(block.first(block.norm(y)))
    y = y * torch.sigmoid(y)
    return y - block.second(y).sin()


@pytest.fixture
def block():
    torch.manual_seed(0)
    return InPlace().double().requires_grad_(False)


def gradient(function, x, weight):
    x = x.clone().requires_grad_()
    value = function(x)
    return value.detach(), torch.autograd.grad((value * weight).sum(), x)[0]


@pytest.mark.parametrize("chunk", [None, 1, 2, 5, 9, MemoryBudget(10**9), MemoryBudget(2000), MemoryBudget(1)])
def test_an_in_place_network_in_any_chunk_has_the_gradient_of_its_out_of_place_twin(block, chunk):
    x, weight = torch.randn(2, 5, 8, dtype=torch.float64)
    value, grad = gradient(lambda x: recompute(block, x, chunk=chunk), x, weight)
    expected_value, expected_grad = gradient(lambda x: out_of_place(block, x), x, weight)
    torch.testing.assert_close(value, expected_value, rtol=1e-12, atol=0)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_gradcheck_with_two_inputs_and_one_constant(block, chunk):
    x, y = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True).unbind()
    constant = torch.randn(3, 8, dtype=torch.float64)

    def function(x, y):
        return recompute(lambda x, y, c: block(x * y.exp()) + c * y, x, y, constant, chunk=chunk)

    assert torch.autograd.gradcheck(function, (x.detach().requires_grad_(), y.detach().requires_grad_()))


def test_a_quadratic_has_its_closed_form_gradient():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    recompute(lambda x: (x**2).sum(1), x, chunk=1).sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach(), rtol=0, atol=0)


def test_recomputation_may_be_nested(block):
    x, weight = torch.randn(2, 4, 8, dtype=torch.float64)
    nested = gradient(lambda x: recompute(lambda x: recompute(block, block(x), chunk=1), x, chunk=2), x, weight)
    plain = gradient(lambda x: out_of_place(block, out_of_place(block, x)), x, weight)
    torch.testing.assert_close(nested, plain, rtol=1e-11, atol=1e-13)


def test_without_gradient_it_is_the_function_itself(block):
    x = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        value = recompute(block, x)
    assert not value.requires_grad and torch.equal(value, block(x.detach()))
    assert not recompute(block, x.detach()).requires_grad


def test_the_input_is_left_alone_by_a_function_that_writes_into_it():
    x = torch.randn(4, 3, dtype=torch.float64)
    before = x.clone()
    _, grad = gradient(lambda x: recompute(lambda x: x.mul_(x), x, chunk=2), x, torch.ones_like(x))
    assert torch.equal(x, before)
    torch.testing.assert_close(grad, 2 * x)


@pytest.mark.parametrize("chunk", [1, None])
def test_a_conditioning_is_left_alone_by_a_function_that_writes_into_it(chunk):
    """Hunyuan DiT pads the text that it is given in place."""
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    text = torch.ones(3, 4, dtype=torch.float64)

    def padded(x, text):
        text[:, 2:] = 0.5
        return (x * text).tanh()

    (grad,) = torch.autograd.grad(recompute(padded, x, text, chunk=chunk, verify=True).sum(), x)
    assert torch.equal(text, torch.ones_like(text))
    scale = torch.tensor([1, 1, 0.5, 0.5], dtype=torch.float64)
    assert torch.allclose(grad, scale * (1 - (x * scale).tanh() ** 2))


def test_nothing_is_kept_between_forward_and_backward_but_the_inputs(block):
    kept = []
    x = torch.randn(16, 8, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        recompute(block, x, chunk=1)
    assert sum(kept) == x.nbytes


@pytest.mark.parametrize("fitting", [2, 4, 6])
def test_the_first_forward_pass_goes_in_the_chunks_of_its_backward_pass(fitting):
    """In others, sums differ in the last bit, which a layer that rounds its input to 8 bits makes visible."""
    passes = {False: [], True: []}
    x = torch.randn(6, 8, requires_grad=True)

    def function(x):
        passes[x.requires_grad].append(len(x))
        return x.tanh()

    recompute(function, x, chunk=MemoryBudget(fitting * 8 * 4)).sum().backward()
    assert passes[True] == [1, *passes[False]] and max(passes[False]) <= fitting
    assert sum(passes[False]) == 6 and (fitting < 6 or passes[False] == [6])


def test_a_budget_measures_one_sample_and_then_fills_itself(block):
    budget, x = MemoryBudget(10**9), torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    assert budget.chunk(6) == 1
    recompute(block, x, chunk=budget)
    assert budget.chunk(6) == 6
    budget.limit = 4 * budget.per_sample
    assert budget.chunk(6) == 3, "six samples in chunks of at most four are evened out"
    budget.limit = 0
    assert budget.chunk(6) == 1


def test_a_small_gradient_survives_half_precision():
    """1e-6 squared is far below float16's smallest number, 6e-8."""
    x = torch.full((2, 4), 0.5, dtype=torch.float32, requires_grad=True)

    def function(x):
        return ((x.half() * 1e-3) * 1e-3).float()

    (grad,) = torch.autograd.grad(recompute(function, x).sum() * 1e-6, x)
    torch.testing.assert_close(grad, torch.full_like(x, 1e-12), rtol=5e-2, atol=0)
    assert power_of_two(torch.tensor([0.0])) == 1 and power_of_two(torch.tensor([float("nan")])) == 1
    assert power_of_two(torch.tensor([3e-5, -0.3])) == 4


@pytest.mark.parametrize("gain", [2, 3])
@pytest.mark.parametrize("way", [recompute, rescaled])
def test_a_gradient_that_overflows_half_precision_is_tried_again_at_a_smaller_scale(way, gain):
    """300 squared is above float16's largest number, 65504; 300 cubed above 2^8 times that."""
    x = torch.full((2, 4), 0.5, requires_grad=True)

    def function(x):
        x = (x * 1e-4).half()
        for _ in range(gain):
            x = x * 300
        return x.float()

    (grad,) = torch.autograd.grad(way(function, x).sum(), x)
    torch.testing.assert_close(grad, torch.full_like(x, 1e-4 * 300**gain), rtol=1e-2, atol=0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_no_scale_mends_is_not_tried_again(wrong):
    asked = []

    def function(x):
        asked.append(len(x))
        return x * torch.tensor([[1.0], [wrong]])

    for way, times in ((recompute, 2), (rescaled, 1)):
        asked.clear()
        x = torch.ones(2, 3, requires_grad=True)
        (grad,) = torch.autograd.grad(way(function, x).sum(), x)
        assert len(asked) == times and grad[0].eq(1).all() and not grad[1].isfinite().any()


@pytest.mark.parametrize("changed", [2.0, 1.1, 1.01])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_network_that_changes_its_answer_is_refused(changed, dtype):
    answers = iter([1.0, changed])
    x = torch.randn(2, 3, dtype=dtype, requires_grad=True)
    value = recompute(lambda x: x * next(answers), x, verify=True)
    with pytest.raises(RecomputationError, match="another answer"):
        value.sum().backward()


def test_answers_may_be_compared_by_a_tensor_of_their_own():
    """A small part of what comes out may be all that the network has to say."""
    answers = iter([1.0, 1.1])

    def function(x):
        said = x * next(answers)
        return x + 1e-3 * said, said.detach()

    x = torch.randn(4, 3, requires_grad=True)
    value = recompute(function, x, verify=True)
    with pytest.raises(RecomputationError, match="another answer"):
        value.sum().backward()
    x.grad = None
    value = recompute(lambda x: (x * 3, x.detach()), x, chunk=1, verify=True)
    value.sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_another_order_of_summation_is_no_other_answer(dtype):
    x, weight = torch.randn(64, 4096).to(dtype), torch.randn(4096, 64).to(dtype)
    halves = x[:, :2048] @ weight[:2048] + x[:, 2048:] @ weight[2048:]
    assert same(halves, x @ weight) and not same(1.1 * halves, x @ weight)
    assert not same(torch.full_like(halves, torch.nan), halves)
    assert same(halves, torch.where(torch.arange(64) == 3, torch.inf, halves)), "what has overflowed says nothing"


def drawing(x):
    """A network that draws for all samples alike, and writes in place into what autograd saved."""
    y = x * torch.rand(x.shape[1:])
    y += torch.tanh(y * torch.rand(1))
    y *= torch.sigmoid(y)
    return y


def drawing_for_each(x):
    return torch.nn.functional.dropout(drawing(x), 0.5)


@pytest.mark.parametrize(
    ("function", "chunk"), [(drawing_for_each, None), *((drawing, c) for c in (None, 1, 2, 5, MemoryBudget(2000)))]
)
def test_what_a_network_draws_is_drawn_again(function, chunk):
    x, weight = torch.randn(2, 5, 8)

    def run(function):
        torch.manual_seed(3)
        leaf = x.clone().requires_grad_()
        value = function(leaf)
        draws = [torch.rand(2)]
        grad = torch.autograd.grad((value * weight).sum(), leaf)[0]
        return value.detach(), grad, *draws, torch.rand(2)

    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        kept = run(function)
    for again, once in zip(run(lambda x: recompute(function, x, chunk=chunk, verify=True)), kept, strict=True):
        torch.testing.assert_close(again, once, rtol=1e-5, atol=1e-6)


def test_an_error_leaves_the_generators_where_they_were():
    def function(x):
        if torch.is_grad_enabled():
            raise KeyError
        return x * torch.rand(())

    x = torch.randn(2, 3, requires_grad=True)
    value = recompute(function, x)
    before = torch.get_rng_state()
    with pytest.raises(KeyError):
        value.sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("times", [1, 2])
def test_a_kept_graph_survives_in_place_writes(block, times):
    x, weight = torch.randn(2, 4, 8, dtype=torch.float64)
    writes = Writes()
    for _ in range(times):
        kept = gradient(lambda x: writes(lambda x: rescaled(block, x), x), x, weight)
        torch.testing.assert_close(kept, gradient(lambda x: out_of_place(block, x), x, weight), rtol=1e-11, atol=1e-13)


def test_in_place_writes_are_learnt_once(block):
    calls, writes = [], Writes()

    def counted(x):
        calls.append(len(x))
        return block(x)

    for _ in range(3):
        writes(counted, torch.randn(2, 8, dtype=torch.float64, requires_grad=True) * 1)
    assert len(calls) == 4 and writes.copied


def test_in_place_writes_of_a_network_are_known_until_it_goes(block):
    writes = Writes.of(block, "euler", 4)
    writes(block, torch.randn(2, 8, dtype=torch.float64, requires_grad=True) * 1)
    assert Writes.of(block, "euler", 4).copied == writes.copied != set()
    assert not Writes.of(block, "euler", 5).copied and not Writes.of(torch.nn.Identity(), "euler", 4).copied
    gone = weakref.ref(network := torch.nn.Identity())
    Writes.of(network)
    del network
    assert gone() is None, "and what is known does not keep it"


def test_the_graph_that_taught_them_is_not_kept_alive(block):
    kept = weakref.ref(block)
    writes = Writes()
    writes(lambda x, block=block: block(x), torch.randn(2, 8, dtype=torch.float64, requires_grad=True) * 1)
    storage = weakref.ref(block.first.weight)
    block.first = block.second = None
    assert storage() is None and kept() is not None


def test_a_result_written_to_an_out_is_differentiated_as_the_write_it_is():
    """Blocks of the language model in HiDream-O1 add their branch to the residual stream that way."""

    def block(x):
        y = x * 2
        y = torch.add(y, torch.tanh(y * y), out=y)
        return torch.add(y, y.sin(), out=y)

    def plain(x):
        y = x * 2
        y = y + torch.tanh(y * y)
        return y + y.sin()

    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="out="):
        block(x)
    with OutAsWrite():
        value = Writes()(block, x)
    torch.testing.assert_close(value, plain(x))
    assert torch.equal(torch.autograd.grad(value.sum(), x)[0], torch.autograd.grad(plain(x).sum(), x)[0])


def test_a_write_after_the_function_has_returned_is_an_error_not_a_wrong_gradient():
    x = torch.randn(3, requires_grad=True)
    y = Writes()(torch.exp, x)
    y += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_a_chunk_below_one_is_refused(block):
    with pytest.raises(ValueError, match="at least 1"):
        recompute(block, torch.zeros(1, 8), chunk=0)


def test_weights_of_inference_mode_become_usable_on_their_own_storage_and_come_back():
    with torch.inference_mode():
        block = InPlace()
        block.plain, block.listed = torch.ones(8), [torch.ones(8)]
    weight, plain = block.first.weight, block.plain
    x = torch.randn(2, 8, requires_grad=True)
    with normal_tensors(block):
        assert block.first.weight.data_ptr() == weight.data_ptr() and not block.plain.is_inference()
        (recompute(block, x) * block.plain * block.listed[0]).sum().backward()
    assert x.grad.isfinite().all()
    assert block.first.weight is weight and block.plain is plain and weight.grad is None

"""What is drawn for some rows of a batch are these rows of what the whole batch draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from noise_optimize.noise.rows import RowsOfWhole

TOTAL, SHAPE = 5, (3, 4, 4)
OWN = torch.Generator()


def written(n: int, method: str, *args: float, generator: torch.Generator | None = None) -> Tensor:
    return getattr(torch.empty(n, *SHAPE), method)(*args, generator=generator)


DRAWS = {
    "randn": lambda n: torch.randn(n, *SHAPE),
    "randn of a shape": lambda n: torch.randn((n, *SHAPE), dtype=torch.float64),
    "randn with a generator of its own": lambda n: torch.randn((n, *SHAPE), generator=OWN),
    "randn_like": lambda n: torch.randn_like(torch.zeros(n, *SHAPE)),
    "rand": lambda n: torch.rand(size=(n, *SHAPE)),
    "rand_like": lambda n: torch.rand_like(torch.zeros(n, *SHAPE)),
    "randint": lambda n: torch.randint(-9, 9, (n, *SHAPE)),
    "normal of a size": lambda n: torch.normal(1.0, 2.0, size=(n, *SHAPE)),
    "normal of tensors": lambda n: torch.normal(torch.zeros(n, *SHAPE), torch.ones(n, *SHAPE)),
    "normal_": lambda n: written(n, "normal_"),
    "normal_ with a generator of its own": lambda n: written(n, "normal_", generator=OWN),
    "uniform_": lambda n: written(n, "uniform_"),
    "exponential_": lambda n: written(n, "exponential_"),
    "bernoulli_": lambda n: written(n, "bernoulli_", 0.5),
    "a distribution": lambda n: torch.distributions.Laplace(0.0, 1.0).rsample((n, *SHAPE)),
    "a distribution of gamma variates": lambda n: torch.distributions.StudentT(2.0).rsample((n, *SHAPE)),
    "dropout": lambda n: torch.nn.functional.dropout(torch.ones(n, *SHAPE)),
    "two draws": lambda n: torch.randn(n, *SHAPE) + torch.randn(n, *SHAPE),
    "a draw of another size": lambda n: torch.randn(n, 1, 2, 2).expand(n, 3, 2, 2),
    "a draw after one number": lambda n: torch.rand(1) * torch.randn(n, *SHAPE),
}


def seeded(draw, n: int) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(3), OWN.manual_seed(4)
        return draw(n)


@pytest.mark.parametrize("rows", [[3], [4, 1], [2, 2, 0], [0, 1, 2, 3, 4, 0]])
@pytest.mark.parametrize("name", DRAWS)
def test_they_are_the_rows_of_the_whole_draw(name: str, rows: list[int]) -> None:
    with RowsOfWhole(rows, TOTAL):
        part = seeded(DRAWS[name], len(rows))
    assert torch.equal(part, seeded(DRAWS[name], TOTAL)[rows])


def test_the_gradient_goes_through_what_is_drawn_beside_it() -> None:
    x = torch.ones(2, *SHAPE, requires_grad=True)
    with RowsOfWhole([4, 1], TOTAL):
        seeded(lambda n: (x * torch.randn_like(x)).sum().backward(), 2)
    assert torch.equal(x.grad, seeded(DRAWS["randn"], TOTAL)[[4, 1]])


def test_a_draw_that_is_not_for_the_batch_is_left_alone() -> None:
    for draw in (lambda n: torch.randperm(2), lambda n: torch.rand(2), lambda n: torch.randn(2, 6)):
        with RowsOfWhole([4, 1], TOTAL):
            part = seeded(draw, 2)
        assert torch.equal(part, seeded(draw, 2))


def test_paused_it_is_as_if_it_were_not_there_and_then_it_is_back() -> None:
    with RowsOfWhole([4], TOTAL) as mode:
        with pytest.raises(KeyError), mode.paused():
            assert torch.equal(seeded(DRAWS["randn"], 1), seeded(DRAWS["randn"], 1)), "the same draw twice"
            plain = seeded(DRAWS["randn"], 1)
            raise KeyError
        part = seeded(DRAWS["randn"], 1)
    assert torch.equal(part, seeded(DRAWS["randn"], TOTAL)[[4]])
    assert torch.equal(plain, seeded(DRAWS["randn"], 1)) and not torch.equal(plain, part)

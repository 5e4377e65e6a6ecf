"""The statistics of a set against closed forms, their symmetries, and an independent implementation."""

import math

import pytest
import torch
import torch.nn.functional as F
from vendi_score import vendi as published

from noise_optimize.objectives.statistics import STATISTICS, contrastive, dpp, kernel, pairwise, vendi, vendi_score

EACH = pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)
SIZES = pytest.mark.parametrize("B", [2, 4, 9])


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Random features (B, P, D) that lean one way, as real ones do."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=dtype) + 0.7, dim=-1)


@EACH
@SIZES
def test_identical_samples_are_0_and_orthogonal_ones_1(statistic, B):
    same = unit(1, 5, 8, dtype=torch.float32).expand(B, -1, -1)
    orthogonal = torch.eye(B)[:, None].expand(-1, 5, -1)
    assert float(statistic(kernel(same))) == pytest.approx(0, abs=1e-5)
    assert float(statistic(kernel(orthogonal))) == pytest.approx(1, abs=1e-5)


@EACH
def test_it_is_between_0_and_1_and_grows_as_samples_move_apart(statistic):
    one, other = unit(1, 3, 8), unit(6, 3, 8, seed=1)
    scores = [float(statistic(kernel(F.normalize(torch.lerp(one, other, t), dim=-1)))) for t in (0.0, 0.2, 0.5, 1.0)]
    assert scores == sorted(scores) and scores[0] >= -1e-6 and scores[-1] <= 1


@EACH
def test_opposites_are_as_different_as_can_be(statistic):
    opposites = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
    assert 0 <= float(statistic(kernel(opposites))) <= 1


@EACH
def test_the_order_of_the_samples_changes_nothing(statistic):
    features = unit(7, 3, 8)
    assert float(statistic(kernel(features.flip(0)))) == pytest.approx(float(statistic(kernel(features))), abs=1e-12)


@EACH
def test_the_gradient_is_that_of_finite_differences(statistic):
    def of(x):
        return statistic(kernel(F.normalize(x, dim=-1)))

    x = unit(4, 2, 5).mul(3).requires_grad_()
    assert torch.autograd.gradcheck(of, x)
    equal_groups = x.detach()[[0, 0, 1, 1]] + 1e-3 * torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(of, equal_groups.double().requires_grad_())


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_samples_have_a_finite_gradient(statistic, dtype):
    x = unit(1, 3, 8, dtype=dtype).repeat(4, 1, 1).requires_grad_()
    statistic(kernel(F.normalize(x, dim=-1))).backward()
    assert x.grad.isfinite().all() and x.grad.abs().max() < 10


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_vendi_score_of_k_equal_groups_is_k(k):
    features = torch.eye(k).repeat_interleave(3, dim=0)[:, None]
    assert float(vendi_score(kernel(features))) == pytest.approx(k, abs=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:vendi_score")
def test_the_vendi_score_is_the_published_one():
    for B in (2, 5, 20):
        K = kernel(unit(B, 3, 8, dtype=torch.float32))
        assert float(vendi_score(K)) == pytest.approx(published.score_K(K.numpy()), abs=1e-5)
        assert float(vendi(K)) == pytest.approx((published.score_K(K.numpy()) - 1) / (B - 1), abs=1e-5)


@SIZES
def test_dpp_is_its_published_formula_rescaled(B):
    K = kernel(unit(B, 3, 8))
    formula = float(torch.logdet(torch.eye(B) * (1 + 1e-6) + K)) / (B * math.log(2))
    least = math.log2(1 + B) / B
    assert float(dpp(K)) * (1 - least) + least == pytest.approx(formula, abs=1e-5)


def test_four_identical_samples_have_a_dpp_of_058_before_it_is_rescaled():
    assert math.log2(1 + 4) / 4 == pytest.approx(0.58, abs=0.001)
    formula = float(torch.logdet(torch.eye(4) + torch.ones(4, 4))) / (4 * math.log(2))
    assert formula == pytest.approx(math.log2(5) / 4, abs=1e-6)


def test_pairwise_is_the_mean_over_places_and_pairs_of_the_cosine_distance():
    x = unit(4, 3, 8).abs()
    pairs = [(i, j) for i in range(4) for j in range(i)]
    expected = sum(1 - F.cosine_similarity(x[i], x[j], dim=-1).mean() for i, j in pairs) / len(pairs)
    assert float(pairwise(kernel(x))) == pytest.approx(float(expected), abs=1e-12)


def test_contrastive_is_cross_entropy_of_each_sample_with_itself():
    x = unit(5, 1, 8)
    logits = kernel(x).clamp(min=0) / 0.1
    loss, worst = F.cross_entropy(logits, torch.arange(5)), math.log(5)
    best = math.log(1 + 4 * math.exp(-10))
    assert float(contrastive(kernel(x))) == pytest.approx(float(worst - loss) / (worst - best), abs=1e-12)


def test_a_kernel_of_patches_compares_the_same_place():
    x = unit(3, 4, 8)
    expected = torch.stack([x[:, p] @ x[:, p].T for p in range(4)]).mean(0)
    torch.testing.assert_close(kernel(x), expected)
    assert float(pairwise(kernel(torch.stack([x[0], x[0].flip(0)])))) > 0.01

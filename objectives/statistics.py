"""How different a set is, from the kernel of its features: 0 when all are identical, 1 when all are orthogonal.

Every statistic takes K (B, B), B >= 2, symmetric, positive semi-definite, unit diagonal, and returns a scalar. All are
symmetric functions of the set, and all have a finite gradient where samples coincide.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

TEMPERATURE = 0.1  # InfoNCE on unit vectors, as in SimCLR (arXiv 2002.05709, table 5)


def kernel(features: Tensor) -> Tensor:
    """(B, B) float64 on the CPU: K_ij = mean over the P places of <phi_i, phi_j>.

    features: (B, P, D) of unit length along D. The matrix is small; on the CPU it has double precision and an
    eigensolver, whatever the accelerator.
    """
    rows = features.flatten(1)
    return (rows @ rows.T / features.shape[1]).cpu().double()


def pairwise(K: Tensor) -> Tensor:
    """() mean cosine distance over the pairs; an angle beyond 90 degrees counts as 90."""
    B = K.shape[0]
    distance = (1 - K).clamp(max=1)
    return (distance.sum() - distance.diagonal().sum()) / (B * (B - 1))


def dpp(K: Tensor) -> Tensor:
    """() logdet(I + K) / (B ln 2), the volume that a determinantal point process gives the set, rescaled.

    Identical samples give log2(1 + B) / B (0.58 at B = 4), which becomes 0. I + K needs no jitter: its eigenvalues
    are 1 and more.
    """
    B = K.shape[0]
    identity = torch.eye(B, dtype=K.dtype, device=K.device)
    volume = 2 * torch.linalg.cholesky(identity + K).diagonal().log().sum() / (B * math.log(2))
    least = math.log2(1 + B) / B
    return (volume - least) / (1 - least)


def vendi(K: Tensor) -> Tensor:
    """() (V - 1) / (B - 1) with the Vendi Score V (arXiv 2210.02410), the effective number of different samples."""
    return (vendi_score(K) - 1) / (K.shape[0] - 1)


def vendi_score(K: Tensor) -> Tensor:
    """() V = exp(-sum lambda ln lambda) over the eigenvalues of K / B: 1 .. B; k equal groups give k."""
    eigenvalues = torch.linalg.eigvalsh(K / K.shape[0])
    positive = eigenvalues[eigenvalues > torch.finfo(K.dtype).eps]
    return (-(positive * positive.log()).sum()).exp()


def contrastive(K: Tensor) -> Tensor:
    """() InfoNCE with each sample as its own positive and the others as negatives (arXiv 2510.03813), rescaled.

    L = mean_i ln(1 + sum_{j != i} exp((K_ij - 1) / tau)), so near duplicates count most.
    """
    B = K.shape[0]
    itself = torch.eye(B, dtype=torch.bool, device=K.device)
    logits = ((K.clamp(min=0) - 1) / TEMPERATURE).masked_fill(itself, 0.0)
    loss = logits.logsumexp(dim=1).mean()
    most, least = math.log(B), math.log1p((B - 1) * math.exp(-1 / TEMPERATURE))
    return (most - loss) / (most - least)


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "pairwise": pairwise,
    "dpp": dpp,
    "vendi": vendi,
    "contrastive": contrastive,
}

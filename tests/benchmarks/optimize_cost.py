"""What the loop adds to bare PyTorch doing the same forward and backward passes of the same networks.

python tests/benchmarks/optimize_cost.py [--iterations 30] [--device cpu]

The shape is one where arithmetic dominates: a generator of wide convolutions on a batch of 4, and latent features. Each
iteration of the loop is followed by the same one in bare PyTorch, and each such pair gives one ratio: of processor time
on the CPU, of wall time on a GPU. What else the machine does meanwhile meets both alike.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import pack

LIMIT = 1.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    pack.register()
    from noise_optimize.noise import Progress, Settings, optimize
    from noise_optimize.objectives.batch import Batch
    from noise_optimize.objectives.diversity import Diversity
    from noise_optimize.objectives.features.latent import LatentFeatures

    torch.manual_seed(0)
    width = 128
    layers = [nn.Conv2d(16, width, 3, padding=1)]
    for _ in range(8):
        layers += [nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)]
    network = (
        nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(width, 16, 3, padding=1)).to(args.device).requires_grad_(False)
    )
    start = torch.randn(4, 16, 64, 64).to(args.device)
    objective = Diversity(features=LatentFeatures(grid=8), statistic="dpp")

    def generate(noise: Tensor) -> Batch:
        return Batch(latents=noise + network(noise))

    def now() -> float:
        if not start.is_cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def bare(noise: Tensor) -> None:
        noise = noise.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(-objective.measure(generate(noise)), noise)
        noise - 0.1 * gradient

    ours, theirs = [], []
    began = now()

    def on_step(progress: Progress) -> None:
        nonlocal began
        ended = now()
        bare(progress.result.noise)
        ours.append(ended - began)
        began = now()
        theirs.append(began - ended)

    optimize(generate, objective, start, Settings(args.iterations, prior_weight=4.0), on_step)
    pairs = list(zip(ours, theirs))[1:-1]  # the first warms up, the last takes no gradient
    ratios = sorted(a / b for a, b in pairs)
    ratio = statistics.median(ratios)
    quarters = statistics.quantiles(ratios, n=4)
    print(
        f"Machine: {platform.platform()}, {args.device}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    print(f"command: python tests/benchmarks/optimize_cost.py --iterations {args.iterations} --device {args.device}")
    print(f"iterations of 4 x 16 x 64 x 64 through 10 convolutions of {width} channels, {len(pairs)} pairs:")
    print(f"ours {statistics.median(ours):.3f} s, bare {statistics.median(theirs):.3f} s, in the median")
    print(f"ours / bare: median {ratio:.3f} (at most {LIMIT}), half of them in {quarters[0]:.3f} to {quarters[2]:.3f}")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())

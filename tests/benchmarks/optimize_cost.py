"""What the loop adds to bare PyTorch doing the same forward and backward passes of the same networks.

python tests/benchmarks/optimize_cost.py [--iterations 6] [--rounds 5] [--device cpu]

The shape is one where arithmetic dominates: a generator of wide convolutions on a batch of 4, and features of another.
Both sides run in turn, and each round gives one ratio: of processor time on the CPU, of wall time on a GPU.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pack

LIMIT = 1.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    pack.register()
    from noise_optimize.noise.optimize import Settings, optimize
    from noise_optimize.objectives.diversity import Diversity
    from noise_optimize.objectives.features.latent import LatentFeatures
    from noise_optimize.objectives.objective import Batch

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

    def wait() -> float:
        if not start.is_cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def ours() -> float:
        began = wait()
        optimize(generate, objective, start, Settings(args.iterations, prior_weight=4.0))
        return wait() - began

    def bare() -> float:
        began, noise = wait(), start
        for _ in range(args.iterations):
            noise = noise.detach().requires_grad_()
            loss = -objective.measure(generate(noise))
            (gradient,) = torch.autograd.grad(loss, noise)
            noise = noise - 0.1 * gradient
        with torch.no_grad():
            objective.measure(generate(noise))
        return wait() - began

    ours(), bare()
    ratios, times = [], []
    for _ in range(args.rounds):
        a, b, c, d = bare(), ours(), ours(), bare()
        ratios.append((b + c) / (a + d))
        times.append((b + c) / 2)
    ratio = statistics.median(ratios)
    print(
        f"Machine: {platform.platform()}, {args.device}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    print(f"command: python tests/benchmarks/optimize_cost.py --iterations {args.iterations} --rounds {args.rounds}")
    print(f"{args.iterations} iterations of 4 x 16 x 64 x 64 through 10 convolutions of {width} channels:")
    print(f"ours {statistics.median(times):.2f} s; ours / bare, median of {args.rounds}: {ratio:.3f} (at most {LIMIT})")
    print("all ratios: " + ", ".join(f"{r:.3f}" for r in ratios))
    return int(ratio > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())

"""What a diversity statistic costs beside extracting the features it works on: DINOv2 ViT-B/14 patches.

python tests/benchmarks/statistics_cost.py [--pictures 64] [--extracted 64] [--repeats 5] [--device cpu]

Both sides are a forward and a backward pass. The network has random weights, which cost the same as trained ones;
extraction is timed on `extracted` pictures at once and scaled to `pictures`.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import pack

LIMIT = 0.05


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """The median of `repeats` runs after one to warm up."""

    def once() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--extracted", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    pack.register()

    import timm

    from noise_optimize.objectives.features.dino import DINOFeatures
    from noise_optimize.objectives.statistics import STATISTICS, kernel

    torch.manual_seed(0)
    network = timm.create_model(
        "vit_base_patch14_dinov2.lvd142m", pretrained=False, num_classes=0, dynamic_img_size=True
    )
    features = DINOFeatures(network.eval().requires_grad_(False).to(options.device), size=252)
    pictures = torch.rand(options.extracted, 3, 252, 252, device=options.device, requires_grad=True)

    def extract() -> None:
        torch.autograd.grad(features(pictures).sum(), pictures)

    extraction = median_seconds(extract, max(1, options.repeats // 2)) * options.pictures / options.extracted
    seen = torch.randn(options.pictures, 18 * 18, 768, device=options.device)
    seen = torch.nn.functional.normalize(seen, dim=-1).requires_grad_()
    device = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"python {' '.join(sys.argv)}")
    print(f"{device}, {platform.machine()}, torch {torch.__version__}, timm {timm.__version__}")
    print(f"extracting {options.pictures} pictures of 324 x 768 features: {extraction:.3f} s")
    for name, statistic in STATISTICS.items():
        cost = median_seconds(lambda: torch.autograd.grad(statistic(kernel(seen)), seen), options.repeats)  # noqa: B023
        share = cost / extraction
        verdict = "within" if share <= LIMIT else "OVER"
        print(f"{name:12} {cost:.4f} s, {share:.2%} of extraction, {verdict} {LIMIT:.0%}")


if __name__ == "__main__":
    main()

"""What colouring costs: pink noise against `randn` and one rfft2/irfft2 pair on the same tensor, in paired runs.

python tests/benchmarks/coloured_noise.py [--shape 64 16 128 128] [--repeats 15]
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
TARGET = 1.3


def load_pack() -> None:
    """Import the clone, whatever its folder is called, as `noise_optimize`."""
    entry, where = ROOT / "__init__.py", [str(ROOT)]
    spec = importlib.util.spec_from_file_location("noise_optimize", entry, submodule_search_locations=where)
    sys.modules["noise_optimize"] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=4, default=[64, 16, 128, 128])
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    load_pack()
    from noise_optimize.noise.coloured import SPECTRA, Spectrum, colour
    from noise_optimize.noise.spectrum import band_shares

    generator = torch.Generator().manual_seed(0)

    def draw() -> torch.Tensor:
        return torch.randn(args.shape, generator=generator)

    def baseline() -> torch.Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(draw()), s=args.shape[-2:])

    def coloured(spectrum: Spectrum) -> torch.Tensor:
        return colour(draw(), spectrum)

    print(f"command: python {' '.join([Path(__file__).relative_to(ROOT).as_posix(), *sys.argv[1:]])}")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, {versions}")
    print(f"{' x '.join(map(str, args.shape))} float32, median of {args.repeats} paired runs (lowest to highest)")
    for kind in SPECTRA:
        pink = partial(coloured, Spectrum(kind))
        baseline(), pink()
        pairs = [(seconds(baseline), seconds(pink)) for _ in range(args.repeats)]
        ratios = sorted(ours / theirs for theirs, ours in pairs)
        theirs, ours = (statistics.median(column) for column in zip(*pairs))
        print(
            f"{kind:10} {statistics.median(ratios):.2f} x randn + rfft2 + irfft2 "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}; {ours:.3f} s against {theirs:.3f} s; target {TARGET} x)"
        )
    print("power in the lowest third at 64 x 64 (published: white 17.5 %, power law 20.8 %, paper 24.1 %):")
    white = torch.randn(64, 16, 64, 64, generator=generator)
    shown = {"white": Spectrum(alpha=0.0), "power law": Spectrum("power law"), "paper": Spectrum()}
    for name, spectrum in shown.items():
        print(f"{name:10} {100 * band_shares(colour(white, spectrum))[:, 0].mean():.2f} %")


if __name__ == "__main__":
    main()

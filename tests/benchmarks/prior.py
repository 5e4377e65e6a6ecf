"""What the prior holds while the demo is optimised, and what that costs in variety.

python tests/benchmarks/prior.py [--seeds 2] [--iterations 30]

Printed at the last iteration, over sets of four pictures of a prompt: how varied the sets are to the demo's judge
(Vendi score of four) and how many pictures show the prompt, each with its standard error; the power of the channels'
means at the start and at the end, then of the lowest rings of the spectrum (white noise: 1); the shortest and the
longest radius. Ends with an error where a held radius is off by more than 1 %, or the power of the means by more than
a tenth.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

import evaluate

from noise_optimize.noise import Settings, Spectrum, colour
from noise_optimize.noise.basis import make_basis
from noise_optimize.noise.spectrum import radial_spectrum

LARGE = {"learning_rate": 0.06, "momentum": 0.0, "iterations": 5}
ROWS = {  # alpha of the starting noise, and settings
    "no prior": (0.0, {"prior_weight": 0.0}),
    "default": (0.0, {}),
    "default, pink noise": (0.2, {}),
    "large steps, no prior": (0.0, LARGE | {"prior_weight": 0.0}),
    "large steps": (0.0, LARGE),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=30)
    args = parser.parse_args()
    bench, failed = evaluate.Bench(args.seeds), False
    objective = bench.objective(*bench.main_diversity())
    print(f"Machine: {platform.platform()}, CPU, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"command: python tests/benchmarks/prior.py --seeds {args.seeds} --iterations {args.iterations}")
    print(f"{len(bench.rows) // evaluate.SET} sets")
    print(f"{'':23}{'Vendi of 4':>13}{'prompt seen':>13}{'means':>14}  {'rings 1 to 4':19}  radius")
    for name, (alpha, options) in ROWS.items():
        start = colour(bench.noise, Spectrum(alpha=alpha))
        settings = Settings(**{"iterations": args.iterations, "rollback": 1.0} | options)
        last = settings.iterations
        batch, noise = bench.optimised(objective, settings, (last,), start)[last]
        row = bench.judged(batch.pictures)
        begun, ended = (radial_spectrum(z)[1].mean(0).tolist() for z in (start, noise))
        radius = make_basis("full", start).radius(noise)
        if settings.prior_weight:
            failed |= bool((radius - 1).abs().max() > 0.01) or abs(ended[0] - begun[0]) > 0.1
        judged = "".join(f"{row[key]:6.2f} ({row['se'][key]:.2f}) " for key in ("vendi", "adherence"))
        rings = " ".join(f"{power:.2f}" for power in ended[1:5])
        print(
            f"{name:23}{judged}{begun[0]:6.2f} -> {ended[0]:.2f}  {rings}  {radius.min():.3f} .. {radius.max():.3f}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())

"""What a sequential set costs in memory: the peak of Noise Optimize for 32 pictures, one at a time, against 2.

python tests/benchmarks/optimize_memory.py [--counts 2 32] [--size 32]

Each set runs in a process of its own, through the node, in the host, on the CPU; what counts is the peak above what
is resident once the model has run. The model is narrow and deep, a FLUX layout of random weights: its activations
are a thousand times as large as a latent, as those of real ones are, so that one graph that is kept would double the
peak. The allocator is told to hand back at once what is freed, so that holes in its heap do not count.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(HERE))

import comfyui
import pack

LIMIT = 1.25
DEEPER = {"depth": 24, "depth_single_blocks": 24}
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


def memory(field: str) -> int:
    """Bytes of this process: VmRSS in memory now, VmHWM at the peak."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))


def peak_of(count: int, size: int) -> None:
    """Prints the peak in bytes above what is resident when the model is loaded."""
    sys.path.insert(0, str(comfyui.COMFYUI))
    from comfy.cli_args import args

    args.cpu, args.base_directory = True, tempfile.mkdtemp()
    import torch

    torch.set_num_threads(1)
    pack.register()
    import comfy_extras.nodes_custom_sampler as samplers
    import tiny_models

    from noise_optimize.nodes.host.wires import DifferentiableSampler
    from noise_optimize.nodes.optimize import NoiseOptimize
    from noise_optimize.objectives.diversity import Diversity
    from noise_optimize.objectives.features.latent import LatentFeatures

    architecture = tiny_models.ARCHITECTURES["flux_schnell"]
    architecture.network.update(DEEPER)
    with torch.inference_mode():
        model = tiny_models.model("flux_schnell")
        wires = {
            "noise": samplers.RandomNoise.execute(0).args[0],
            "guider": samplers.BasicGuider.execute(model, tiny_models.conditioning("flux_schnell")).args[0],
            "sampler": DifferentiableSampler(samplers.KSamplerSelect.execute("euler").args[0], memory="low"),
            "sigmas": samplers.BasicScheduler.execute(model, "simple", 1, 1.0).args[0],
            "latent_image": tiny_models.latent("flux_schnell", size, size, 1),
            "objective": Diversity(features=LatentFeatures()),
        }
        node = NoiseOptimize.PREPARE_CLASS_CLONE(None)
        smaller = {"latent_image": tiny_models.latent("flux_schnell", 4, 4, 1)}
        node.execute(**wires | smaller, total_pictures=2, iterations=1)
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak so far
        node.execute(**wires, total_pictures=count, iterations=1)
    print(memory("VmHWM") - before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs=2, default=[2, 32])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        peak_of(args.one, args.size)
        return 0
    peaks = []
    for count in args.counts:
        command = [sys.executable, __file__, "--one", str(count), "--size", str(args.size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | ALLOCATOR)
        peaks.append(int(done.stdout.split()[-1]))
    ratio = peaks[1] / peaks[0]
    print(f"Machine: {platform.platform()}, Python {platform.python_version()}, ComfyUI {comfyui.version()}, CPU")
    counts = " ".join(map(str, args.counts))
    print(f"command: python tests/benchmarks/optimize_memory.py --counts {counts} --size {args.size}")
    for count, peak in zip(args.counts, peaks, strict=True):
        print(f"a set of {count}, one at a time: {peak / 1e6:.1f} MB above the loaded model")
    print(f"ratio {ratio:.3f} (at most {LIMIT})")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())

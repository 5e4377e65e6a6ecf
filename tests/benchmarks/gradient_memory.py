"""Is memory flat in batch and steps? Peak resident bytes of one gradient at `low`, above what was resident before.

    python tests/benchmarks/gradient_memory.py [latent size]

The memory budget is that of one sample, as on a device that is full. Latents, noise and gradients of the batch, which
nobody can do without, are not counted. Each case runs in a process of its own, forked from one that has the model.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if "MALLOC_MMAP_THRESHOLD_" not in os.environ:  # freed memory goes back at once, so that resident is allocated
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"})  # noqa: S606

import host_script
import torch

import comfy.utils  # isort: skip
import host_gradients  # isort: skip
import tiny_models  # isort: skip

torch.set_num_threads(1)
comfy.utils.PROGRESS_BAR_ENABLED = False
LATENT_COPIES = 8  # noise, gradient, x, prediction, their copies on the way


def resident(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(name))


def gradient(wired, batch: int, steps: int, size: int) -> int:
    """Peak bytes of one gradient above what was resident, without the latents."""

    def body(session) -> int:
        session.memory.model.limit = 1
        noise = torch.randn(session.shape, requires_grad=True)
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        torch.autograd.grad(session.generate(noise).sum(), noise)
        return resident("VmHWM") - before - LATENT_COPIES * noise.nbytes

    latent = tiny_models.latent("sd15", size, size, batch)
    return host_gradients.run(wired, "euler", host_gradients.sigmas(wired, steps), latent, body, memory="low")


def in_a_process(*case) -> int:
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, str(gradient(*case)).encode())
        os._exit(0)
    os.wait()
    return int(os.read(read, 32))


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    wired = host_gradients.tiny_guider("sd15", 2.0)
    gradient(wired, 1, 1, 8)
    one, batch, steps = (in_a_process(wired, b, s, size) for b, s in ((1, 1), (16, 1), (1, 8)))
    print(host_script.machine())
    print(f"one sample, one step: {one / 1e6:.1f} MB at latent {size} x {size}")
    print(f"batch of 16: {batch / 1e6:.1f} MB, {batch / one:.2f} x (at most 1.25)")
    print(f"8 steps: {steps / 1e6:.1f} MB, {steps / one:.2f} x (at most 1.10)")

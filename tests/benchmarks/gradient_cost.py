"""What the host and the session add to bare PyTorch: seconds of one gradient, in pairs, as a ratio of medians.

    python tests/benchmarks/gradient_cost.py [latent size] [rounds]

The same UNet (layout of Stable Diffusion 1.5, tiny), Euler, two steps, batch 2, no CFG. Bare: the network called in a
loop with autograd, nothing else.
"""

from __future__ import annotations

import statistics
import sys
import time

import host_script
import torch

import comfy.utils  # isort: skip
import host_gradients  # isort: skip
import tiny_models  # isort: skip

comfy.utils.PROGRESS_BAR_ENABLED = False
BATCH, STEPS = 2, 2


def bare(model, context, sigmas, noise):
    sampling, network = model.model_sampling, model.diffusion_model
    leaf = noise.clone().requires_grad_()
    x = leaf * torch.sqrt(1 + sigmas[0] ** 2)
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        time_step = sampling.timestep(sigma).expand(len(x)).float()
        x = x + network(x / torch.sqrt(sigma**2 + 1), time_step, context=context) * (after - sigma)
    return torch.autograd.grad(x.sum(), leaf)[0]


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def session_gradient(session, noise):
    leaf = noise.clone().requires_grad_()
    return torch.autograd.grad(session.generate(leaf).sum(), leaf)[0]


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    torch.set_num_threads(1)
    wired = host_gradients.tiny_guider("sd15")
    sigmas = host_gradients.sigmas(wired, STEPS)
    latent = tiny_models.latent("sd15", size, size, BATCH)
    noise = torch.randn(latent["samples"].shape, generator=tiny_models.generator())
    context = tiny_models.conditioning("sd15")[0][0].repeat(BATCH, 1, 1)
    model = wired.model_patcher.model
    print(host_script.machine())
    for memory, bound in (("fast", 1.05), ("low", 1.6)):

        def body(session):
            def run():
                return session_gradient(session, noise)

            def plain():
                return bare(model, context, sigmas, noise)

            mine = run() * model.latent_format.scale_factor
            reference = plain()
            assert (mine - reference).norm() < 1e-3 * reference.norm()
            run()
            pairs = [(seconds(plain), seconds(run)) for _ in range(rounds)]
            return statistics.median(b / a for a, b in pairs), statistics.median(a for a, _ in pairs)

        ratio, base = host_gradients.run(wired, "euler", sigmas, latent, body, memory=memory)
        print(f"{memory}: {ratio:.2f} x bare PyTorch ({base:.2f} s, latent {size} x {size}), at most {bound}")

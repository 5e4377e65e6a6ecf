"""A picture keeps its place in the batch, whichever pictures it is computed with and whatever is drawn there."""

from __future__ import annotations

import functools

import comfy.k_diffusion.sampling
import comfy.sample
import comfy.samplers
import comfy_extras.nodes_custom_sampler
import host_gradients as gradients
import numpy
import pytest
import tiny_models
import torch

from noise_optimize.nodes.latents import FixedNoise

TOTAL, STEPS = 3, 3
NAMES = [n for n in comfy.samplers.SAMPLER_NAMES if n != "dpm_adaptive" and not n.endswith("_gpu")]


class Noise:
    """Random Noise of the host."""

    seed = gradients.SEED

    def generate_noise(self, latent):
        return comfy.sample.prepare_noise(latent["samples"], self.seed, latent.get("batch_index"))


def host(wires, noise, latent):
    """What SamplerCustomAdvanced makes of it."""
    wired, sampler, sigmas = wires
    sampler = comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler
    with torch.inference_mode():
        node = comfy_extras.nodes_custom_sampler.SamplerCustomAdvanced
        return node.execute(noise, wired, sampler, sigmas, latent)[0]["samples"].clone()


def wire(sampler, prompts=1, total=TOTAL, prediction="eps"):
    wired = gradients.small_guider(prediction, 2.0, prompts)
    return (wired, sampler, gradients.sigmas(wired, STEPS)), tiny_models.latent("sd15", 4, 4, total)


def part(wires, latent, noise, places, total=TOTAL):
    def body(session):
        with torch.no_grad():
            return session.generate(noise)

    return gradients.run(*wires, latent, body, members=(places, total))


class Drawn:
    """A noise sampler as packs write them: a class with its own device, generator and way to draw."""

    def __init__(self, x, seed, draw=torch.randn, adjust=None):
        self.shape, self.draw, self.adjust = x.shape, draw, adjust
        self.generator = torch.Generator().manual_seed(seed + 5)

    def __call__(self, *_):
        noise = self.draw(self.shape, generator=self.generator, dtype=torch.float64).float()
        return noise if self.adjust is None else self.adjust(noise)


def channelwise(noise):
    return noise.sub_(noise.mean((-2, -1), keepdim=True)).div_(noise.std((-2, -1), keepdim=True))


def written(shape, generator, dtype):
    return torch.empty(shape, dtype=dtype).normal_(generator=generator)


def by_numpy(x, seed):
    source = numpy.random.default_rng(seed)
    return lambda *_: torch.from_numpy(source.normal(size=x.shape)).float()


def one_by_one(x, seed):
    sources = [torch.Generator().manual_seed(seed + i) for i in range(len(x))]
    return lambda *_: torch.cat([torch.randn((1, *x.shape[1:]), generator=source) for source in sources])


def brownian(x, seed):
    return comfy.k_diffusion.sampling.BrownianTreeNoiseSampler(x, 0.02, 15.0, seed=seed, cpu=True)


@torch.no_grad()
def ancestral(model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None, **_):
    """Euler's ancestral sampler of another pack, whose noise comes from elsewhere."""
    draw = noise_sampler(x, extra_args.get("seed"))
    for i, (sigma, after) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        denoised = model(x, sigma * x.new_ones(len(x)), **extra_args)
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        x = x + (x - denoised) / sigma * (0.6 * after - sigma)
        x = x + 0.8 * after * draw(sigma, after)
    return x


class Walk(comfy.samplers.Sampler):
    """A SAMPLER that is none of the host's."""

    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        x = noise * sigmas[0]
        for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
            denoised = guider(x, sigma * x.new_ones(len(x)), **extra_args)
            x = denoised + after * torch.empty_like(x).normal_()
        return x


def foreign(noise_sampler):
    return comfy.samplers.KSAMPLER(ancestral, {"noise_sampler": noise_sampler})


RIGHT = {
    "a generator of its own": foreign(Drawn),
    "normalised channel by channel": foreign(functools.partial(Drawn, adjust=channelwise)),
    "uniform": foreign(functools.partial(Drawn, draw=torch.rand)),
    "written in place": foreign(functools.partial(Drawn, draw=written)),
    "a Brownian tree": foreign(brownian),
    "from the global state": foreign(lambda x, seed: lambda *_: torch.randn_like(x)),
    "one noise for all": foreign(lambda x, seed: lambda *_: torch.randn((1, *x.shape[1:]))),
    "no noise": foreign(lambda x, seed: lambda *_: 0.0),
    "a class": Walk(),
}
REFUSED = {
    "normalised over the batch": foreign(functools.partial(Drawn, adjust=lambda noise: noise / noise.std())),
    "drawn by numpy": foreign(by_numpy),
    "sample by sample, seeded by the place": foreign(one_by_one),
}


@pytest.mark.parametrize("sampler", [*NAMES, *RIGHT])
def test_a_picture_is_the_same_whichever_pictures_it_is_computed_with(sampler):
    wires, latent = wire(RIGHT.get(sampler, sampler), prompts=TOTAL)
    latent["noise_mask"] = (torch.rand(TOTAL, 1, 32, 32, generator=tiny_models.generator(2)) > 0.5).float()
    noise = Noise().generate_noise(latent)
    whole = host(wires, Noise(), latent)
    for places in ([2], [2, 0], [1, 1, 0, 1]):
        made = part(wires, latent, noise[places], places)
        torch.testing.assert_close(made, whole[places], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_sde", "lcm", *RIGHT])
def test_its_gradient_is_that_of_its_row_in_the_whole(sampler):
    wires, latent = wire(RIGHT.get(sampler, sampler), prompts=TOTAL)
    start = Noise().generate_noise(latent)
    weight = torch.randn(start.shape, generator=tiny_models.generator(4))

    def gradient(rows, **members):
        def body(session):
            noise = start[rows].requires_grad_()
            return torch.autograd.grad((session.generate(noise) * weight[rows]).sum(), noise)[0]

        return gradients.run(*wires, latent, body, **members)

    whole = gradient(list(range(TOTAL)))
    for places in ([2], [2, 0]):
        assert (gradient(places, members=(places, TOTAL)) - whole[places]).norm() < 1e-4 * whole[places].norm()


@pytest.mark.parametrize("sampler", [*REFUSED, "dpm_adaptive"])
def test_a_sampler_that_looks_at_the_batch_as_a_whole_samples_it_but_no_part(sampler):
    wires, latent = wire(REFUSED.get(sampler, sampler))
    noise = Noise().generate_noise(latent)
    made = gradients.run(*wires, latent, lambda session: session.generate(noise))
    assert torch.equal(made, host(wires, Noise(), latent))
    for places in ([2], [0, 2]):
        with pytest.raises(ValueError, match="looks at the batch as a whole.*latent_image.*euler"):
            part(wires, latent, noise[places], places)


CHURNED = comfy.samplers.KSAMPLER(comfy.k_diffusion.sampling.sample_euler, {"s_churn": 2.0})  # draws from torch's own


@pytest.mark.parametrize("prompts", [1, TOTAL])
@pytest.mark.parametrize(
    "sampler", ["euler", "euler_ancestral", "lcm", "dpmpp_2m_sde", "ddim", CHURNED, RIGHT["a class"]]
)
def test_what_a_search_scores_is_what_any_sampler_makes_of_what_it_keeps(sampler, prompts):
    """Eight candidates, two at once; of those for each place the one is kept whose picture is brightest."""
    count, keep = 8, TOTAL
    wires, latent = wire(sampler, prompts)
    candidates = torch.randn(count, 4, 4, 4, generator=tiny_models.generator(3))
    scored, matter = {}, []
    for group in torch.arange(count).split(2):

        def body(session, group=group):
            matter.append(session.places_matter())
            with torch.no_grad():
                return session.generate(candidates[group])

        members = [int(i) % keep for i in group], keep
        scored |= dict(zip(group.tolist(), gradients.run(*wires, latent, body, members=members), strict=True))
    assert set(matter) == {sampler not in ("euler", "ddim") or prompts > 1}
    kept = [max(range(place, count, keep), key=lambda i: scored[i].mean()) for place in range(keep)]
    torch.manual_seed(99)  # what was drawn before is nobody's business
    shown = host(wires, FixedNoise(candidates[kept], Noise.seed), latent)
    torch.testing.assert_close(torch.stack([scored[i] for i in kept]), shown, rtol=1e-5, atol=1e-5)
    session = gradients.run(*wires, latent, lambda session: session.generate(candidates[kept]))
    assert torch.equal(session, shown)

"""The tiny models sample through the host's own sampler and decode to pictures worth comparing."""

import comfy.sample
import pytest
import tiny_models
import torch


def sample(name: str, seed: int) -> torch.Tensor:
    model, conditioning = tiny_models.model(name), tiny_models.conditioning(name)
    latent = tiny_models.latent(name, batch=2)["samples"]
    noise = comfy.sample.prepare_noise(latent, seed)
    return comfy.sample.sample(model, noise, 2, 1.0, "euler", "simple", conditioning, conditioning, latent)


@pytest.mark.parametrize("name", tiny_models.ARCHITECTURES)
def test_a_tiny_model_turns_noise_into_its_own_latents_the_same_way_every_time(name):
    latents = sample(name, seed=1)
    assert latents.isfinite().all() and latents.std() > 0.1
    assert torch.equal(latents, sample(name, seed=1))
    assert not torch.equal(latents, sample(name, seed=2))


@pytest.mark.parametrize("name", tiny_models.ARCHITECTURES)
def test_a_tiny_model_follows_its_prompt(name):
    model, latent = tiny_models.model(name), tiny_models.latent(name)["samples"]
    noise = comfy.sample.prepare_noise(latent, 0)
    prompts = [tiny_models.conditioning(name, seed) for seed in (0, 1)]
    one, other = (comfy.sample.sample(model, noise, 1, 1.0, "euler", "simple", c, c, latent) for c in prompts)
    assert (one - other).abs().max() > 1e-3


def test_all_that_a_checkpoint_holds_is_filled_and_what_a_module_computes_stays():
    module = torch.nn.BatchNorm1d(3)
    module.register_buffer("positions", torch.full((1, 4, 2), torch.nan))
    module.register_buffer("frequencies", torch.arange(3.0), persistent=False)
    module.running_mean.fill_(torch.nan), module.running_var.fill_(-1.0)
    tiny_models.randomise(module)
    assert module.positions.isfinite().all() and module.positions.any()
    assert module.running_mean.isfinite().all() and (module.running_var > 0).all()
    assert torch.equal(module.frequencies, torch.arange(3.0)) and module.num_batches_tracked == 0


@pytest.mark.parametrize("channels", [4, 16])
def test_the_tiny_vae_gives_pictures_that_use_the_range(channels):
    pictures = tiny_models.vae(channels).decode(torch.randn(2, channels, 8, 8, generator=tiny_models.generator(0)))
    assert pictures.shape == (2, 64, 64, 3)
    assert 0.05 < pictures.std() < 0.35 and 0.3 < pictures.mean() < 0.7

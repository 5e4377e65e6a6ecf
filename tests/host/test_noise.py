"""The pack's NOISE inside the host: the host's own white noise, coloured; given noise where it fits."""

import math
from functools import partial

import comfy.sample
import pytest
import tiny_models
import torch
from comfy.nested_tensor import NestedTensor
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise
from nodes import KSamplerAdvanced

from noise_optimize.nodes.latents import ColouredNoise, FixedNoise, noise_for
from noise_optimize.nodes.noise import NoiseToLatent, PinkNoise
from noise_optimize.nodes.spectrum import NoiseSpectrum
from noise_optimize.noise.coloured import Spectrum, colour
from noise_optimize.noise.spectrum import band_shares

SHAPES = [(2, 4, 8, 8), (1, 16, 5, 7), (1, 128, 4, 4), (1, 16, 3, 6, 5), (2, 4, 1, 1), (2, 64, 9)]
WHITE, PINK = Spectrum(alpha=0.0), Spectrum(alpha=0.2)


def latent(*shape, dtype=torch.float32, **extra):
    return {"samples": torch.zeros(shape, dtype=dtype), **extra}


def fixed():
    return FixedNoise(torch.zeros(3, 4, 8, 8), 5, batch_index=[0, 2, 4])


def nested(**extra):
    return {"samples": NestedTensor([torch.zeros(2, 8, 3, 4, 6), torch.zeros(2, 8, 5, 16)]), **extra}


def equal(one, other):
    pairs = zip(one.unbind(), other.unbind(), strict=True) if one.is_nested else [(one, other)]
    return all(a.equal(b) and a.dtype == b.dtype for a, b in pairs)


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
@pytest.mark.parametrize(
    "made_for",
    [
        *(latent(*shape) for shape in SHAPES),
        latent(3, 4, 8, 8, batch_index=[4, 1, 4]),
        latent(1, 4, 8, 8, dtype=torch.bfloat16),
        nested(),
        nested(batch_index=[2, 0]),
    ],
)
def test_white_is_the_hosts_random_noise_bit_for_bit(made_for, seed):
    assert equal(ColouredNoise(seed, WHITE).generate_noise(made_for), Noise_RandomNoise(seed).generate_noise(made_for))


def test_colour_is_a_filter_of_the_hosts_random_noise_part_by_part():
    host, ours = (noise.generate_noise(nested()) for noise in (Noise_RandomNoise(3), ColouredNoise(3, PINK)))
    assert equal(ours, NestedTensor([colour(part, PINK) for part in host.unbind()]))


def test_batch_index_picks_the_samples_of_the_whole_batch():
    whole = ColouredNoise(5, PINK).generate_noise(latent(1, 4, 8, 8, batch_index=[3]))
    some = ColouredNoise(5, PINK).generate_noise(latent(2, 4, 8, 8, batch_index=[1, 3]))
    assert some[1:].equal(whole) and not some[0].equal(some[1])


@pytest.mark.parametrize("index", [None, [4, 0, 0]])
@pytest.mark.parametrize("make", [partial(ColouredNoise, 5, WHITE), partial(ColouredNoise, 5, PINK), fixed])
def test_it_leaves_the_hosts_random_state_as_random_noise_does(make, index):
    """Some samplers and model patches draw from it: their pictures are not to depend on what was drawn before."""
    empty = latent(3, 4, 8, 8) | ({} if index is None else {"batch_index": index})
    torch.manual_seed(11)
    comfy.sample.prepare_noise(empty["samples"], 5, index)
    expected = torch.rand(3)
    torch.manual_seed(12)
    make().generate_noise(empty)
    assert torch.rand(3).equal(expected)


@pytest.mark.parametrize("made_for", [latent(0, 4, 8, 8), latent(1, 4, 8, 0), latent(1, 4, 8, 8, dtype=torch.int64)])
def test_a_latent_without_noise_is_refused_with_the_remedy(made_for):
    with pytest.raises(ValueError, match="latent_image holds .*wire a latent of an image"):
        ColouredNoise(0, PINK).generate_noise(made_for)


@pytest.mark.parametrize("alpha", [math.nan, 3.0])
def test_pink_noise_refuses_a_meaningless_alpha(alpha):
    with pytest.raises(ValueError, match="alpha is"):
        PinkNoise.execute(0, alpha, "paper")


HELD = torch.randn(3, 4, 8, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "made_for,rows",
    [
        (latent(3, 4, 8, 6), [0, 1, 2]),
        (latent(2, 4, 8, 6), [0, 1]),
        (latent(1, 4, 8, 6, batch_index=[2]), [2]),
        (latent(2, 4, 8, 6, batch_index=[1, 1]), [1, 1]),
    ],
)
def test_fixed_noise_gives_the_samples_that_a_latent_asks_for(made_for, rows):
    assert FixedNoise(HELD).generate_noise(made_for).equal(HELD[rows])


def test_fixed_noise_knows_which_samples_of_a_larger_batch_it_holds():
    noise = FixedNoise(HELD, batch_index=[7, 5, 9])
    assert noise.generate_noise(latent(2, 4, 8, 6, batch_index=[5, 9])).equal(HELD[1:])
    assert noise.generate_noise(latent(3, 4, 8, 6)).equal(HELD)


@pytest.mark.parametrize(
    "made_for,message",
    [
        (latent(3, 4, 16, 6), "another size .3 of 4 x 8 x 6; latent_image holds 3 of 4 x 16 x 6.; set latent_image"),
        (latent(4, 4, 8, 6), "holds the samples .0, 1, 2. of its batch, and latent_image asks for 4"),
        (latent(1, 4, 8, 6, batch_index=[3]), "latent_image asks for .3.; set the batch"),
        (nested(), "another size"),
    ],
)
def test_fixed_noise_refuses_latents_it_was_not_made_for(made_for, message):
    with pytest.raises(ValueError, match=message):
        FixedNoise(HELD).generate_noise(made_for)


def test_an_empty_latent_stands_for_the_latent_that_given_noise_was_made_for():
    """As in the host's samplers, which give an empty latent the channels of the model."""
    assert noise_for(FixedNoise(HELD), latent(2, 16, 8, 6)).equal(HELD[:2])
    filled = {"samples": torch.ones(2, 16, 8, 6)}
    with pytest.raises(ValueError, match="another size"):
        noise_for(FixedNoise(HELD), filled)


def test_a_latent_that_names_a_sample_twice_gets_both_and_a_part_of_it_is_told_so():
    """Latent Batch of two empty latents: both are samples 0 and 1 of their batch."""
    given = FixedNoise(HELD, batch_index=[0, 1, 0])
    assert given.generate_noise(latent(*HELD.shape, batch_index=[0, 1, 0])).equal(HELD)
    assert given.generate_noise(latent(1, *HELD.shape[1:], batch_index=[1])).equal(HELD[1:2])
    with pytest.raises(ValueError, match="noise holds several samples of one number"):
        given.generate_noise(latent(1, *HELD.shape[1:], batch_index=[0]))


def test_given_noise_is_not_rounded_to_the_latent_that_asks_for_it():
    assert FixedNoise(HELD).generate_noise(latent(*HELD.shape, dtype=torch.bfloat16)).equal(HELD)


def test_an_empty_latent_becomes_given_noise_of_another_size_as_it_is():
    model, given = tiny_models.model("sd15"), torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    one, other = (
        NoiseToLatent.execute(FixedNoise(given), latent(1, 4, *size), model).args[0] for size in ((8, 8), (6, 6))
    )
    assert one["samples"].equal(other["samples"])


@pytest.mark.parametrize("architecture,filled", [("sdxl", False), ("sd15", True)])
def test_ksampler_advanced_starts_from_the_latent_as_from_the_noise(architecture, filled):
    model = tiny_models.model(architecture)
    conditioning = tiny_models.conditioning(architecture)
    image = tiny_models.latent(architecture, batch=2)
    if filled:
        image["samples"] = torch.randn(image["samples"].shape, generator=torch.Generator().manual_seed(1))
    noisy = NoiseToLatent.execute(Noise_RandomNoise(5), image, model).args[0]

    def pictures(add_noise, start):
        return KSamplerAdvanced().sample(
            model, add_noise, 5, 1, 1.0, "euler", "normal", conditioning, conditioning, start, 0, 10000, "disable"
        )[0]["samples"]

    torch.testing.assert_close(pictures("disable", noisy), pictures("enable", image), rtol=1e-4, atol=1e-4)


def test_noise_to_latent_keeps_what_belongs_to_the_latent_and_refuses_flow_models():
    made_for = latent(2, 16, 8, 8, batch_index=[0, 1], downscale_ratio_spacial=8)
    plain = NoiseToLatent.execute(ColouredNoise(0, PINK), made_for).args[0]
    assert plain["samples"].equal(ColouredNoise(0, PINK).generate_noise(made_for))
    assert plain.keys() == {"samples", "batch_index"}
    with pytest.raises(ValueError, match="model is a flow model.*SamplerCustomAdvanced"):
        NoiseToLatent.execute(ColouredNoise(0, PINK), made_for, tiny_models.model("flux_schnell"))


@pytest.mark.parametrize(
    "shape,reference",
    [
        ((2, 16, 9, 12), None),
        ((1, 8, 3, 6, 5), ColouredNoise(1, WHITE)),
        ((2, 4, 1, 1), None),
        ((2, 64, 9), ColouredNoise(1, WHITE)),
    ],
)
def test_the_spectrum_of_every_kind_of_latent_is_plotted(shape, reference):
    noise = ColouredNoise(0, PINK)
    picture, *shares = NoiseSpectrum.execute(noise, latent(*shape), reference).args
    assert picture.shape == (1, 704, 1024, 3) and picture.dtype == torch.float32
    assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.05
    assert shares == pytest.approx(band_shares(noise.generate_noise(latent(*shape))).mean(0).tolist())


def test_the_spectrum_of_one_sample_is_that_samples():
    noise, made_for = ColouredNoise(0, PINK), latent(3, 4, 8, 8)
    _, *shares = NoiseSpectrum.execute(noise, made_for, sample=2).args
    assert shares == pytest.approx(band_shares(noise.generate_noise(made_for))[2].tolist())
    with pytest.raises(ValueError, match="sample is 3 and noise holds 3; set sample to 2 or less"):
        NoiseSpectrum.execute(noise, made_for, sample=3)
    with pytest.raises(ValueError, match="noise has several parts"):
        NoiseSpectrum.execute(noise, nested())

"""Noise and gradients in plain torch: no module here imports ComfyUI. What a script needs, by name.

Four one-step samplings of a model that repeats itself, made to differ:

>>> import torch
>>> from noise_optimize.noise import Settings, Spectrum, colour, optimize
>>> from noise_optimize.objectives import Batch, Diversity, LatentFeatures
>>> def sample(noise):
...     return Batch(latents=noise[:1].detach() + 0.1 * noise)
>>> noise = colour(torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0)), Spectrum(alpha=0.2))
>>> objective = Diversity(features=LatentFeatures(grid=4), statistic="vendi", target=0.02)
>>> result = optimize(sample, objective, noise, Settings(iterations=50))
>>> print(result.stopped, list(result.noise.shape))
the diversity target was reached [4, 4, 16, 16]
"""

from .coloured import Spectrum, colour
from .files import NoiseFile, load, save
from .history import Progress, Result, Step
from .optimize import optimize
from .patterns import NoiseSet
from .recipes import RECIPES
from .search import select
from .set_files import load_set, save_set
from .sets import together
from .settings import Settings

__all__ = [
    "RECIPES",
    "NoiseFile",
    "NoiseSet",
    "Progress",
    "Result",
    "Settings",
    "Spectrum",
    "Step",
    "colour",
    "load",
    "load_set",
    "optimize",
    "save",
    "save_set",
    "select",
    "together",
]

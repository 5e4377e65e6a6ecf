"""What makes a set of pictures good and different, in plain torch: no module here imports ComfyUI. By name:

an objective scores a batch (`Diversity`, `clip_score`, `preference`, `aesthetic`, `DetailGuard`, or a class of your own
derived from `Objective`), and features are how it sees pictures or latents (`...Features`, or a class of your own
derived from `Features`). Objectives add, subtract and scale like numbers:

>>> import torch
>>> from noise_optimize.objectives import Batch, ColourFeatures, Diversity, LatentFeatures
>>> objective = Diversity(features=LatentFeatures(), statistic="dpp") + 0.5 * Diversity(features=ColourFeatures())
>>> batch = Batch(latents=torch.ones(3, 4, 8, 8), pictures=torch.ones(3, 3, 64, 64))
>>> [(score.name, round(float(score.mean), 3), score.weight) for score in objective(batch)]
[('Latent Features dpp', 0.0, 1.0), ('Color Features (lab) vendi', 0.0, 0.5)]
"""

from .batch import Batch
from .diversity import Diversity
from .features.base import Features
from .features.clip import CLIPFeatures
from .features.colour import ColourFeatures
from .features.dino import DINOFeatures, load_dino
from .features.latent import LatentFeatures
from .features.lpips import LPIPSFeatures, load_lpips
from .guards import DetailGuard
from .objective import Objective, combine
from .pretrained.clip import load_clip
from .quality import aesthetic, clip_score, preference

__all__ = [
    "Batch",
    "CLIPFeatures",
    "ColourFeatures",
    "DINOFeatures",
    "DetailGuard",
    "Diversity",
    "Features",
    "LPIPSFeatures",
    "LatentFeatures",
    "Objective",
    "aesthetic",
    "clip_score",
    "combine",
    "load_clip",
    "load_dino",
    "load_lpips",
    "preference",
]

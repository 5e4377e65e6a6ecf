"""What a MODEL is: the latents that it takes, its family, and the layout of its network."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def latent_format(model: Any) -> tuple[str, int]:
    """What the latents of a MODEL are: the name of their format, and their channels."""
    wanted = model.get_model_object("latent_format")
    return type(wanted).__name__, int(wanted.latent_channels)


def model_name(model: Any) -> str:
    """What the host calls the family of a MODEL, such as Flux."""
    return type(model.model).__name__


def layout(model: Any) -> str:
    """Short letters for the layout of a MODEL's network, which its finetunes, LoRAs and quantised forms share."""
    config = model.model.model_config.unet_config
    said = {name: repr(value) for name, value in config.items() if isinstance(value, (int, float, str, list, tuple))}
    return hashlib.sha256(json.dumps([model_name(model), said], sort_keys=True).encode()).hexdigest()[:12]

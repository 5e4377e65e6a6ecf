"""The names that KSampler offers, with those that other packs have added."""

from __future__ import annotations

import comfy.samplers

SAMPLERS: list[str] = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS: list[str] = comfy.samplers.KSampler.SCHEDULERS

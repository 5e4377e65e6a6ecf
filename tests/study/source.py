"""What the source measured (arXiv 2601.00090): by metric, then by model and starting noise, then by way."""

from __future__ import annotations

WAYS = ("i.i.d.", "group selection", "optimized")
SDXL, FLUX = "SDXL-Turbo, GenEval", "FLUX.1 schnell"
Numbers = dict[str, float]
PUBLISHED: dict[str, dict[tuple[str, str], Numbers]] = {
    "DINO diversity": {
        (SDXL, "white"): dict(zip(WAYS, (0.588, 0.705, 0.784))),
        (SDXL, "pink"): dict(zip(WAYS, (0.642, 0.749, 0.786))),
    },
    "CLIPScore": {(SDXL, "white"): {"i.i.d.": 0.335, "optimized": 0.349}},
    "Vendi": {
        (f"{SDXL}, DPP with HPSv2.1", "white"): {"i.i.d.": 2.000, "optimized": 4.000},
        (FLUX, "white"): {"i.i.d.": 2.013, "optimized": 2.753},
        (FLUX, "pink"): {"i.i.d.": 2.013, "optimized": 3.038},
    },
    "HPSv2.1": {
        (f"{SDXL}, DPP with HPSv2.1", "white"): {"i.i.d.": 0.284, "optimized": 0.292},
        (FLUX, "white"): {"i.i.d.": 0.304, "optimized": 0.293},
        (FLUX, "pink"): {"i.i.d.": 0.304, "optimized": 0.279},
    },
}
SECONDS = {("SDXL-Turbo", 1, 4): 0.345, ("FLUX.1 schnell", 1, 4): 1.092}  # an iteration on one A100 80 GB

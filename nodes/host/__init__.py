"""The only place that touches ComfyUI's private parts; README.md beside this file is its map.

What the other nodes use of it is named here, and imported when it is first used, after `compatibility.check`. So a
ComfyUI in which something is gone still has every node of the pack, and those that do not need it work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

DOORS = {
    "session": {
        "session": ("Session", "run_in_session"),
        "foresight": ("Begun",),
        "members": ("Whole",),
        "recall": ("Recall",),
        "wires": (
            "DifferentiableSampler",
            "guider_of",
            "latent_image",
            "one_video",
            "refuse_gradient",
            "refuse_vae",
            "refuse_wires",
        ),
    },
    "networks": {"networks": ("patcher",)},
    "clip_vision": {"clip_vision": ("CLIPVisionFeatures",)},
    "demo": {"demo": ("load_demo",)},
    "latents": {
        "latents": ("fitted", "nested", "starting_latent"),
        "models": ("latent_format", "layout", "model_name"),
    },
    "starts": {"starts": ("Remake", "starting_from", "starts_elsewhere")},
    "ksampler": {"ksampler": ("KSampler",)},
    "": {"memory": ("MEMORY",), "names": ("SAMPLERS", "SCHEDULERS"), "version": ("too_old",)},
}  # for each part of compatibility.SYMBOLS, and for what needs none: the modules and their names that it opens

if TYPE_CHECKING:
    from .clip_vision import CLIPVisionFeatures as CLIPVisionFeatures
    from .demo import load_demo as load_demo
    from .foresight import Begun as Begun
    from .ksampler import KSampler as KSampler
    from .latents import fitted as fitted
    from .latents import nested as nested
    from .latents import starting_latent as starting_latent
    from .members import Whole as Whole
    from .memory import MEMORY as MEMORY
    from .models import latent_format as latent_format
    from .models import layout as layout
    from .models import model_name as model_name
    from .names import SAMPLERS as SAMPLERS
    from .names import SCHEDULERS as SCHEDULERS
    from .networks import patcher as patcher
    from .recall import Recall as Recall
    from .session import Session as Session
    from .session import run_in_session as run_in_session
    from .starts import Remake as Remake
    from .starts import starting_from as starting_from
    from .starts import starts_elsewhere as starts_elsewhere
    from .version import too_old as too_old
    from .wires import DifferentiableSampler as DifferentiableSampler
    from .wires import guider_of as guider_of
    from .wires import latent_image as latent_image
    from .wires import one_video as one_video
    from .wires import refuse_gradient as refuse_gradient
    from .wires import refuse_vae as refuse_vae
    from .wires import refuse_wires as refuse_wires
else:

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        from .compatibility import check

        for part, modules in DOORS.items():
            for module, names in modules.items():
                if name in names:
                    check(part)
                    globals()[name] = found = getattr(import_module(f"{__name__}.{module}"), name)
                    return found
        raise AttributeError(f"module {__name__} has no attribute {name}")

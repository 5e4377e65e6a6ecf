"""What a picture owes to its place in the batch, and how it keeps its place when it is computed with other pictures.

A sampler that injects noise draws it for the whole batch, so each place has noise of its own; a batch of prompts, masks
or latents gives each place its own, too. What a node shows has to be what any sampler makes of the noise that the node
hands out. So a picture is always computed as the one at the place at which it is handed out:

- Pictures of a set that is made in several batches are `members` of the set, (places, total): see `run_in_session`.
- A search that keeps K of N candidates computes candidate i as member i mod K of a set of K, in each round, and keeps
  one candidate for each place, if `Session.places_matter()`. (Where pictures stay, candidates after the first K are for
  the other places in turn.) Then the pictures that it scored are those that it hands out, to the rounding of another
  batch size, and no run is added; the price is a smaller choice. (As members of a set of N, the K kept would be handed
  out at other places, with other injected noise: other pictures than were scored.)

Whether a sampler can be given rows of the noise of a whole is no matter of its name: it is tried, without the model.
"""

from __future__ import annotations

import contextlib

import comfy.utils
import torch
from torch import Tensor

from ...noise.rows import RowsOfWhole
from .stand_in import Trial

SET = 3  # pictures of the trial
PARTS = ([2], [2, 0])  # those of them that are computed without the rest
TOLERANCE = 1e-4  # of the norm; the same arithmetic on another number of rows differs by 1e-6
FREE, ROWS, WHOLE = "free", "rows", "whole"


def placing(trial: Trial) -> str:
    """What the pictures of this SAMPLER depend on beside their own starts.

    FREE: nothing. ROWS: their rows of the noise that it draws for the batch. WHOLE: something else in the batch, such
    as steps chosen for all, statistics over the batch, or noise that is not drawn by torch.

    Three pictures are sampled together and apart.
    """
    shape = trial.noise.shape
    source, unlike = torch.Generator().manual_seed(0), torch.arange(1, SET + 1).reshape(-1, *(1,) * (len(shape) - 1))
    noise = (torch.randn((SET, *shape[1:]), generator=source) * unlike).to(trial.noise)
    latent = comfy.utils.repeat_to_batch_size(trial.latent, SET)
    mask = None if trial.mask is None else comfy.utils.repeat_to_batch_size(trial.mask, SET)

    def run(rows: list[int]) -> Tensor:
        return trial(noise[rows], latent[rows], None if mask is None else mask[rows]).nan_to_num()

    with torch.no_grad():
        whole = run(list(range(SET)))
        for answer in (FREE, ROWS):
            agree = []
            for rows in PARTS:
                with RowsOfWhole(rows, SET) if answer == ROWS else contextlib.nullcontext():
                    part = run(rows)
                agree.append((part - whole[rows]).norm() <= TOLERANCE * whole[rows].norm())
            if all(agree):
                return answer
    return WHOLE

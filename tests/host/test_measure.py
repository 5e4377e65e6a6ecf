"""Measure Images inside the host: it places networks, takes what IMAGE carries, and draws what there is to compare."""

import pytest
import torch
from comfy.model_management import loaded_models
from pictures import natural

from noise_optimize.nodes.measure import MeasureNode, draw, draw_matrix, measurable, table
from noise_optimize.nodes.plots import new_figure
from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.features.base import Features
from noise_optimize.objectives.features.colour import ColourFeatures
from noise_optimize.objectives.guards import DetailGuard
from noise_optimize.objectives.objective import combine


class Projection(Features):
    """Pictures of 8 x 8 pixels through one small network."""

    name = "Projection"

    def __init__(self):
        with torch.inference_mode(False):
            self.network = torch.nn.Linear(3 * 64, 5)

    @property
    def networks(self):
        return (self.network,)

    def encode(self, x):
        return self.network(x.flatten(1))[:, None]


def images(count, channels=3):
    return torch.cat([natural(count, 8, 8)] * 2, dim=1)[:, :channels].movedim(1, -1)


def test_grey_pictures_are_those_of_three_equal_channels():
    grey = images(3, channels=1)
    objective = Diversity(features=ColourFeatures(), statistic="pairwise")
    one, other = (MeasureNode.execute(each, objective).args[1] for each in (grey, grey.expand(-1, -1, -1, 3)))
    assert one == other


def test_the_host_has_the_networks_while_they_measure():
    features = Projection()
    with torch.inference_mode():
        report, scores, plot = MeasureNode.execute(images(3), Diversity(features=features, statistic="vendi")).args
    assert features.network.host_patcher in loaded_models()
    assert "Projection vendi" in report and len(scores) == 1 and 0 < scores[0] <= 1
    assert plot.shape[0] == 1 and plot.shape[-1] == 3 and plot.dtype == torch.float32 and plot.max() <= 1


def test_a_fourth_channel_is_left_out():
    objective = Diversity(features=ColourFeatures())
    three, four = (MeasureNode.execute(images(3, channels), objective).args for channels in (3, 4))
    assert three[:2] == four[:2]


@pytest.mark.parametrize("count", [2, 12, 20])
def test_any_number_of_pictures_is_drawn(count):
    colours = [Diversity(features=ColourFeatures(), statistic=name) for name in ("dpp", "vendi")]
    batches = [Batch(pictures=natural(count, 8, 8, seed)) for seed in (0, 1)]
    leaves, _ = measurable(combine([*colours, DetailGuard()]), batches)
    scores = [[leaf(batch)[0] for leaf in leaves] for batch in batches]
    assert draw(leaves, batches, scores).shape == (1, 1120, 1280, 3), "one matrix for both, one row of bars, twice"
    assert len(table(scores).splitlines()) == 2 + len(leaves)


def test_distances_have_one_scale_so_that_a_set_of_twins_looks_like_one():
    axes = new_figure().subplots()
    draw_matrix(axes, torch.full((2, 2), 0.03).fill_diagonal_(0), natural(2, 8, 8))
    assert axes.images[0].get_clim() == (0, 1)

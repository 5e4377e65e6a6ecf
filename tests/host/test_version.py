"""A ComfyUI that is too old is told so in one sentence, and keeps the nodes that can work."""

import asyncio

import comfyui_version
import host_gradients as gradients
import pytest
from comfy_config.config_parser import extract_node_configuration
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise
from pack import ROOT
from packaging.specifiers import SpecifierSet
from tiny_models import latent

from noise_optimize.nodes import GROUPS, NoiseOptimizeExtension
from noise_optimize.nodes.features import ColorFeaturesNode
from noise_optimize.nodes.host.version import OLDEST, too_old
from noise_optimize.nodes.noise import NoiseToLatent

ALL = [node for group in GROUPS for node in group.NODES]
SENTENCE = "Noise Optimize needs ComfyUI 0.22.0 or newer, and this is {}: update ComfyUI."


def listed():
    return asyncio.run(NoiseOptimizeExtension().get_node_list())


@pytest.fixture(params=["0.21.1", "0.9", "0.3.75"])
def old(request, monkeypatch):
    monkeypatch.setattr(comfyui_version, "__version__", request.param)
    return SENTENCE.format(request.param)


@pytest.mark.parametrize("version", ["0.22.0", "0.22.1", "0.33.0", "1.0.0"])
def test_a_supported_host_hears_nothing(version, monkeypatch, caplog):
    monkeypatch.setattr(comfyui_version, "__version__", version)
    assert too_old() == "" and listed() == ALL and not caplog.records


def test_an_old_host_logs_one_sentence_and_keeps_the_nodes_that_it_can_show(old, monkeypatch, caplog):
    assert listed() == ALL

    def unknown(*args, **more):
        raise TypeError("__init__() got an unexpected keyword argument 'advanced'")

    caplog.clear()
    monkeypatch.setattr(ColorFeaturesNode, "define_schema", classmethod(unknown))
    assert listed() == [node for node in ALL if node is not ColorFeaturesNode]
    assert [record.getMessage() for record in caplog.records] == [old]


def test_nodes_that_sample_say_so_and_those_that_do_not_work(old):
    guider = gradients.small_guider()
    with pytest.raises(RuntimeError) as told:
        gradients.run(guider, "euler", gradients.sigmas(guider), latent("sd15"), lambda session: None)
    assert str(told.value) == old
    with pytest.raises(RuntimeError) as told:
        NoiseToLatent.execute(Noise_RandomNoise(0), latent("sd15"), guider.model_patcher)
    assert str(told.value) == old
    assert NoiseToLatent.execute(Noise_RandomNoise(0), latent("sd15")).args[0]["samples"].any()


def test_the_registry_is_told_the_same_version():
    stated = SpecifierSet(extract_node_configuration(str(ROOT)).project.supported_comfyui_version)
    assert ".".join(map(str, OLDEST)) in stated and "0.21.1" not in stated

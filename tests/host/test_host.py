"""The in-process tier stands on the real host, on the CPU, and touches none of its folders."""

import comfyui
import folder_paths
import nodes
from comfy import model_management


def test_nodes_is_the_hosts_module_and_not_a_folder_of_this_pack():
    assert nodes.__file__ == str(comfyui.COMFYUI / "nodes.py")


def test_the_host_computes_on_the_cpu():
    assert model_management.get_torch_device().type == "cpu"


def test_the_hosts_own_folders_are_left_alone():
    assert not folder_paths.get_output_directory().startswith(str(comfyui.COMFYUI))

"""What each task of dev.py asks a machine for."""

import ast
import importlib.util

import pytest
from pack import ROOT

SPEC = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
dev = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(dev)


@pytest.mark.parametrize(
    "task, words, host, browser",
    [
        ("lint", "", False, True),
        ("types", "", False, True),
        ("demo", "", True, True),
        ("bench", "import_time", True, True),
        ("test", "", True, True),
        ("test", "-q -k pink", True, True),
        ("test", "tests", True, True),
        ("test", "tests/maths", False, False),
        ("test", "tests/maths/test_sets.py::test_batches_together_are_seen_as_their_parts_are -q", False, False),
        ("test", "-k pink tests/maths tests/test_packaging.py", False, False),
        ("test", "tests/maths tests/host/test_pack.py", True, False),
        ("test", "tests/graphs", True, False),
        ("test", "tests/browser/test_examples.py", True, True),
    ],
)
def test_comfyui_and_a_browser_are_wanted_only_by_what_runs_in_them(task, words, host, browser):
    arguments = words.split()
    assert dev.needs_host(task, arguments) == host
    assert dev.needs_browser(arguments) == browser


def test_the_extra_of_what_comfyui_brings_is_read_from_pyproject():
    assert "torch" in dev.requirements("alone") and "pytest>=8.3" in dev.requirements("test")
    with pytest.raises(AttributeError):
        dev.requirements("nothing")


HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server"}
HOST |= {"tiny_models", "tiny_controlnets", "tiny_networks", "host_gradients"}  # our helpers that import it


@pytest.mark.parametrize("file", sorted((ROOT / "tests" / "maths").glob("*.py")), ids=lambda file: file.name)
def test_the_tests_of_the_maths_import_no_host(file):
    imported = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {node.module for node in imported if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
    assert not {name.split(".")[0] for name in names} & HOST
    assert not any(name.startswith("noise_optimize.nodes") for name in names)

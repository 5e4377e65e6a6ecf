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
        ("oldest", " ".join(dev.OLDEST), True, False),
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


@pytest.fixture
def oldest(tmp_path, monkeypatch):
    """A folder for the oldest host, and the runs of pytest: the host that each is told, or None for the usual one."""
    runs = []
    monkeypatch.setattr(dev, "lint", lambda: None)
    monkeypatch.setattr(dev, "run_pytest", lambda *words, **environment: runs.append(environment.get("COMFYUI_PATH")))
    monkeypatch.setattr(dev.comfyui, "OLDEST", tmp_path / "oldest")
    monkeypatch.delenv("COMFYUI_OLDEST_PATH", raising=False)
    return tmp_path / "oldest", runs


def install(folder, version):
    folder.mkdir()
    (folder / "main.py").touch()
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"')


def test_all_tests_end_with_those_of_the_oldest_comfyui(oldest):
    folder, runs = oldest
    install(folder, dev.comfyui.OLDEST_VERSION)
    dev.test()
    assert runs == [None, str(folder)]
    dev.test("tests/maths")
    assert runs == [None, str(folder), None]


def test_where_the_oldest_comfyui_is_missing_the_last_line_says_so(oldest, capsys):
    folder, runs = oldest
    dev.test()
    assert runs == [None]
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"== NOT TESTED: ComfyUI {dev.comfyui.OLDEST_VERSION}, ")


def test_another_comfyui_does_not_pass_for_the_oldest(oldest):
    install(oldest[0], "0.33.0")
    with pytest.raises(dev.Failure, match=r"is ComfyUI 0\.33\.0; the oldest is .*: install that there\."):
        dev.test()
    assert oldest[1] == [None]


def test_chance_has_ten_runs_in_ten_orders_and_with_ten_bytes_in_new_memory(monkeypatch):
    runs = []
    monkeypatch.setattr(dev, "run_pytest", lambda *words, **environment: runs.append((words, environment)))
    dev.perturb("tests/maths")
    bytes_, orders = ({environment[name] for _, environment in runs} for name in ("MALLOC_PERTURB_", "TEST_ORDER"))
    assert len(runs) == len(bytes_) == len(orders) == 10 and all(0 < int(byte) < 256 for byte in bytes_)
    assert {words for words, _ in runs} == {("tests/maths",)}
    dev.perturb()
    assert {"tests/maths", "tests/host"} <= set(runs[-1][0])


@pytest.mark.parametrize("test", dev.OLDEST)
def test_what_the_oldest_comfyui_runs_is_there(test):
    file, _, name = test.partition("::")
    assert f"def {name or 'test_'}" in (ROOT / file).read_text(encoding="utf-8")


HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server"}
HOST |= {"tiny_models", "tiny_controlnets", "tiny_networks", "host_gradients"}  # our helpers that import it


@pytest.mark.parametrize("file", sorted((ROOT / "tests" / "maths").glob("*.py")), ids=lambda file: file.name)
def test_the_tests_of_the_maths_import_no_host(file):
    imported = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {node.module for node in imported if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
    assert not {name.split(".")[0] for name in names} & HOST
    assert not any(name.startswith("noise_optimize.nodes") for name in names)

"""What the registry, pip and a careful reader of the source are promised."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pack import ROOT
from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HALVES = ("noise", "objectives", "nodes")
SOURCES = [ROOT / "__init__.py", *(file for half in HALVES for file in sorted((ROOT / half).rglob("*.py")))]
HOST_FREE = [file for file in SOURCES if file.relative_to(ROOT).parts[0] in ("noise", "objectives")]
FORBIDDEN = {"print", "eval", "exec", "compile", "__import__", "manual_seed", "seed", "seed_all", "manual_seed_all"}


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def calls(tree: ast.AST) -> set[str]:
    """The names called as f() or, of torch, numpy and random, as module.f(); not the methods of an object."""
    called = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    dotted = re.compile(r"(?:(?:torch|np|numpy|random)\.(?:\w+\.)*)?(\w+)")
    return {match[1] for match in map(dotted.fullmatch, called) if match}


def imports(tree: ast.AST) -> set[str]:
    """The top-level names of everything imported absolutely."""
    absolute = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {word.split(".")[0] for word in [node.module for node in absolute] + plain}


def test_requirements_txt_and_pyproject_name_the_same_dependencies():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert lines == PROJECT["project"]["dependencies"]


def test_the_registry_finds_everything_it_asks_for():
    project, comfy = PROJECT["project"], PROJECT["tool"]["comfy"]
    assert re.fullmatch(r"[a-z](-?[a-z0-9])*", project["name"]) and "comfy" not in project["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert (ROOT / project["license"]["file"]).read_text(encoding="utf-8").startswith("MIT License")
    assert project["urls"]["Repository"].startswith("https://github.com/")
    assert project["description"] and project["classifiers"] and project["requires-python"]
    assert comfy["PublisherId"] and comfy["DisplayName"] == "Noise Optimize" and comfy["requires-comfyui"]


def picture(key: str) -> tuple[int, int]:
    """Width and height of a picture of the registry, which lies in the repository."""
    return Image.open(ROOT / PROJECT["tool"]["comfy"][key].split("/main/")[1]).size


def test_icon_and_banner_have_the_registrys_size_and_shape():
    width, height = picture("Icon")
    assert width == height <= 400
    width, height = picture("Banner")
    assert width * 9 == height * 21


def test_the_archive_of_the_registry_is_small_and_holds_what_the_pack_needs():
    """It has what git tracks and .comfyignore does not name; the registry takes at most 20 MB."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S607
    files = [name for name in tracked.decode().split("\0") if name]
    ignored = tuple(line[1:] for line in (ROOT / ".comfyignore").read_text(encoding="utf-8").split())
    packed = {name for name in files if not name.startswith(ignored)}
    assert sum((ROOT / name).stat().st_size for name in packed) < 20e6
    folders = {name.partition("/")[0] for name in packed if "/" in name}
    assert folders >= {"assets", "docs", "example_workflows", "locales", "nodes", "noise", "objectives", "web"}
    assert not folders & {"tests", ".ci", ".github"}
    assert all(any(name.startswith(each) for name in files) for each in ignored), "a line that ignores nothing"


@pytest.mark.parametrize("file", SOURCES, ids=name)
def test_no_module_prints_evaluates_text_or_seeds_the_world(file):
    assert not calls(ast.parse(file.read_text(encoding="utf-8"))) & FORBIDDEN


@pytest.mark.parametrize("file", SOURCES, ids=name)
def test_no_except_swallows_a_cancel(file):
    handlers = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if hasattr(node, "handlers")]
    caught = [handler.type for node in handlers for handler in node.handlers]
    assert None not in caught
    assert not {"Exception", "BaseException"} & {ast.unparse(kind) for kind in caught}


@pytest.mark.parametrize("file", SOURCES, ids=name)
def test_what_a_kind_takes_part_in_is_read_from_the_table(file):
    """objectives/kinds.py says it; a comparison of kinds elsewhere would say it again."""
    compared = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Compare)]
    sides = {ast.unparse(side) for node in compared for side in (node.left, *node.comparators)}
    assert not any(re.fullmatch(r"(?!self\.)[\w.]+\.kind", side) for side in sides)


@pytest.mark.parametrize("file", HOST_FREE, ids=name)
def test_the_maths_never_imports_the_host(file):
    host = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server"}
    assert not imports(ast.parse(file.read_text(encoding="utf-8"))) & host


def test_what_contributing_names_is_where_it_says():
    words = re.findall(r"`([\w/]+(?:/|\.\w+))`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    beside = {file.name for half in HALVES for file in (ROOT / half).glob("*.py")}  # named in the row of their folder
    assert words and not [word for word in words if not (ROOT / word).exists() and word not in beside]


def test_readme_and_model_card_say_what_the_evaluation_measured():
    """`python tests/demo/report.py` writes the tables into both."""
    spec = importlib.util.spec_from_file_location("report", ROOT / "tests" / "demo" / "report.py")
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    results = json.loads((ROOT / "assets" / "demo" / "results.json").read_text(encoding="utf-8"))
    for page in report.PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(report.BLOCK.findall(text)) >= 2
        assert report.filled(text, results) == text

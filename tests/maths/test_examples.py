"""The examples of docs/python.md and of the docstrings run and say what they say they do."""

import doctest
import importlib
import inspect
import re
import subprocess
import sys

import pack
import pytest

import noise_optimize.noise
import noise_optimize.objectives

HALVES = (noise_optimize.noise, noise_optimize.objectives)
NEED_WEIGHTS = {"CLIPFeatures", "DINOFeatures", "LPIPSFeatures", "aesthetic", "clip_score", "preference"}
NEED_WEIGHTS |= {"load_clip", "load_dino", "load_lpips"}
RECORDS = {"RECIPES", "Progress", "Result", "Step"}  # what functions give; nobody makes one


def modules():
    for half in HALVES:
        folder = pack.ROOT / half.__name__.rpartition(".")[2]
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(pack.ROOT).with_suffix("").parts
            yield ".".join(("noise_optimize", *(part for part in parts if part != "__init__")))


@pytest.mark.parametrize("name", list(modules()))
def test_the_examples_of_a_module_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed, "the report is in the captured output"


@pytest.mark.parametrize("half", HALVES, ids=lambda half: half.__name__)
def test_whatever_a_script_makes_or_calls_is_shown_in_an_example(half):
    own = {name: inspect.getdoc(getattr(half, name)) or "" for name in half.__all__}
    shown = "\n".join([*(inspect.getdoc(each) or "" for each in HALVES), *own.values()])
    lines = "\n".join(re.findall(r"^\s*(?:>>>|\.\.\.) (.*)$", shown, re.MULTILINE))
    unseen = {name for name in own if not re.search(rf"\b{name}\(|\({name}\)", lines)}
    assert unseen - NEED_WEIGHTS - RECORDS == set()


def test_the_scripts_of_the_page_need_two_imports_and_run():
    text = (pack.ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    script, sums = re.findall(r"^```python$(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert script.count("noise_optimize") == 2
    names = {"my_model": lambda z: z[:1].detach() + 0.1 * z}
    exec(script + sums.replace("objective =", "total ="), names)  # noqa: S102
    result, noise, objective = (names[name] for name in ("result", "noise", "objective"))
    assert len(result.history) == 11 and result.noise.shape == noise.shape
    batches = (names["Batch"](latents=names["my_model"](z)) for z in (noise, result.noise))
    before, after = (float(objective.measure(batch)) for batch in batches)
    assert after > before
    assert {leaf.kind for leaf in names["total"].leaves()} == {"diversity", "guard"}


@pytest.mark.parametrize("half", HALVES, ids=lambda half: half.__name__)
def test_either_half_can_be_imported_first_and_brings_nothing_heavy(half):
    """In a process of its own, by what docs/python.md says: the folder of the clone on sys.path."""
    heavy = ("open_clip", "lpips", "timm", "torchvision", "kornia", "matplotlib", "cma", "transformers")
    code = (
        f"import sys; sys.path.insert(0, {str(pack.ROOT / 'tests' / 'support')!r}); import pack; pack.register()\n"
        f"before = set(sys.modules)\nfrom {half.__name__} import *\n"
        f"brought = {{name.split('.')[0] for name in set(sys.modules) - before}}\n"
        f"print(sorted(brought & set({heavy!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"

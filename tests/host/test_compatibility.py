"""What the pack uses of ComfyUI's private parts is asked for before it is used, and one sentence says what is gone."""

import inspect
import subprocess
import sys
import types
from pkgutil import resolve_name

import comfyui
import pytest
from pack import ROOT

from noise_optimize.nodes import GROUPS, host
from noise_optimize.nodes.host import compatibility
from noise_optimize.nodes.host.symbols import SYMBOLS

ROWS = [(part, symbol) for symbol, part in {s: part for part, every in SYMBOLS.items() for s in every}.items()]
DETAILS = [(part, symbol, kind, name) for part, symbol in ROWS for kind in ("has", "takes", "says")
           for name in getattr(symbol, kind).split()]  # fmt: skip
SENTENCE = "Noise Optimize does not fit this ComfyUI: {} gone; update the pack. {}"


def told(monkeypatch, part, symbol):
    """What `check` says of a part, were this symbol all that it needs; None where it is content."""
    monkeypatch.setitem(compatibility.SYMBOLS, part, (symbol,))
    try:
        compatibility.check(part)
    except RuntimeError as error:
        return str(error)


def gone(part, *what):
    names = " and ".join(filter(None, (", ".join(what[:-1]), what[-1])))
    still = "Pink Noise, Noise Spectrum, Save Noise, Load Noise and Measure Images still work."
    return SENTENCE.format(
        f"{names} {'is' if len(what) == 1 else 'are'}",
        still if part == "session" else "Nodes that do not need it still work.",
    )


def take_away(monkeypatch, name):
    """As if ComfyUI had no symbol of this dotted name."""
    owner, _, last = name.rpartition(".")
    monkeypatch.delattr(resolve_name(owner), last, raising=False)
    if name in sys.modules:
        monkeypatch.setitem(sys.modules, name, None)


def inherited(name):
    """Whether a method that was taken away is there all the same, by a base of its class."""
    owner, _, last = name.rpartition(".")
    return hasattr(resolve_name(owner), last)


def functions(thing):
    """The functions of which a function, class or module is made."""
    if isinstance(thing, types.ModuleType):
        thing = [value for value in vars(thing).values() if getattr(value, "__module__", None) == thing.__name__]
    elif isinstance(thing, type):
        members = [member for base in thing.__mro__ for member in vars(base).values()]
        thing = [member for member in members if not isinstance(member, type)]
    elif isinstance(thing, property):
        thing = [thing.fget]
    elif isinstance(thing, (staticmethod, classmethod)):
        thing = [thing.__func__]
    else:
        thing = inspect.unwrap(thing) if callable(thing) else thing
        return [thing] if isinstance(thing, types.FunctionType) else []
    return [function for each in thing for function in functions(each)]


def renamed(thing, name):
    """Code, or what code holds, in which a name or a string is another."""
    if isinstance(thing, types.CodeType):
        parts = ("co_name", "co_names", "co_varnames", "co_consts")
        return thing.replace(**{part: renamed(getattr(thing, part), name) for part in parts})
    if isinstance(thing, (tuple, frozenset)):
        return type(thing)(renamed(each, name) for each in thing)
    return "another" if isinstance(thing, str) and thing == name else thing


def rename(monkeypatch, thing, name):
    """As if ComfyUI used another name in all the code of a thing, and for an attribute of it."""
    for holder in thing.__mro__ if isinstance(thing, type) else [thing]:
        if name in vars(holder):
            monkeypatch.delattr(holder, name)
    for function in functions(thing):
        if (code := renamed(function.__code__, name)) != function.__code__:
            monkeypatch.setattr(function, "__code__", code)


def test_this_comfyui_has_all_of_it():
    for part in SYMBOLS:
        compatibility.check(part)


@pytest.mark.parametrize("part,symbol", ROWS, ids=lambda value: getattr(value, "name", value))
def test_without_a_symbol_one_sentence_says_so(part, symbol, monkeypatch):
    assert told(monkeypatch, part, symbol) is None
    take_away(monkeypatch, symbol.name)
    if symbol.where == symbol.name:
        assert told(monkeypatch, part, symbol) is None, "an older ComfyUI does not have it"
    elif inherited(symbol.name):  # and so other than it was
        assert told(monkeypatch, part, symbol).startswith("Noise Optimize does not fit this ComfyUI: the parameter ")
    else:
        assert told(monkeypatch, part, symbol) == gone(part, symbol.name)


@pytest.mark.parametrize("part,symbol,kind,name", DETAILS, ids=lambda value: getattr(value, "name", value))
def test_without_what_is_relied_on_in_it_one_sentence_says_so(part, symbol, kind, name, monkeypatch):
    if compatibility._found(symbol.name) is compatibility.GONE:
        assert symbol.where == symbol.name and told(monkeypatch, part, symbol) is None
        return
    thing = resolve_name(symbol.name)
    if isinstance(thing, str):
        monkeypatch.setattr(resolve_name(symbol.name.rpartition(".")[0]), symbol.name.rpartition(".")[2], "another")
    else:
        rename(monkeypatch, thing, name)
    words = {
        "has": f"{symbol.name}.{name}",
        "takes": f"the parameter {name} of {symbol.name}",
        "says": f"{name} in {symbol.name}",
    }
    assert told(monkeypatch, part, symbol) == gone(part, words[kind])


def test_parameters_that_changed_places_are_found(monkeypatch):
    symbol = next(symbol for _, symbol in ROWS if symbol.name == "comfy.samplers.CFGGuider.sample")
    monkeypatch.setattr("comfy.samplers.CFGGuider.sample", lambda self, latent_image, noise, *args, **kwargs: None)
    said = told(monkeypatch, "session", symbol)
    assert "the parameter noise of comfy.samplers.CFGGuider.sample, the parameter latent_image of" in said


def test_several_that_are_gone_are_one_sentence(monkeypatch):
    names = ("comfy.sampler_helpers.prepare_mask", "comfy.controlnet.ControlLoraOps")
    for name in names:
        take_away(monkeypatch, name)
    with pytest.raises(RuntimeError) as error:
        compatibility.check("session")
    layers = [f"{names[1]}.{kind}" for kind in ("Linear", "Conv2d")]
    assert str(error.value) == gone("session", names[0], *layers)


def test_the_door_asks_before_it_opens_and_what_has_no_part_is_open(monkeypatch):
    asked = []
    monkeypatch.setattr(compatibility, "check", asked.append)
    for name in ("run_in_session", "MEMORY"):
        vars(host).pop(name, None)
        assert getattr(host, name) is getattr(host, name)
    assert asked == ["session", ""]
    assert not hasattr(host, "nothing_of_ours")


IMPORTED = (  # while a module of the engine is, in this way and that
    "comfy.controlnet.ControlLoraOps",
    "comfy.samplers.Sampler",
    "comfy.text_encoders.llama",
    "comfy.ldm.modules.attention.attention_pytorch",
    "comfy.patcher_extension.WrappersMP",
    "comfy.nested_tensor.NestedTensor",
    "comfy.taesd.taesd.Block",
    "comfy.clip_model.siglip2_flex_calc_resolution",
)
LOADING = f"""
import asyncio, importlib, sys, tempfile
from pkgutil import resolve_name
sys.path[:0] = [{str(comfyui.COMFYUI)!r}, {str(ROOT / "tests" / "support")!r}]
from comfy.cli_args import args
args.cpu = True
import folder_paths, nodes, pack, pytest, torch
from comfy_extras.nodes_custom_sampler import KSamplerSelect

def load():
    for module in [module for module in sys.modules if module.split(".")[0] == "noise_optimize"]:
        del sys.modules[module]
    pack.register()
    ours = importlib.import_module("noise_optimize.nodes")
    listed = asyncio.run(ours.NoiseOptimizeExtension().get_node_list())
    named = {{node.GET_SCHEMA().node_id.removeprefix("NoiseOptimize"): node for node in listed}}
    latent, pictures = {{"samples": torch.zeros(1, 4, 8, 8)}}, torch.rand(2, 16, 16, 3)
    noise = named["PinkNoise"].execute(0, 0.2, "paper").args[0]
    assert named["NoiseToLatent"].execute(noise, latent).args[0]["samples"].std() > 0.5
    try:
        named["DifferentiableSampler"].execute(euler)
        said = ""
    except RuntimeError as error:
        said = str(error)
    print(len(named), said, sep="|", flush=True)
    assert sum(named["Spectrum"].execute(noise, latent).args[1:]) == pytest.approx(1)
    saved = named["SaveNoise"].execute(noise, latent, "kept").ui["noise"][0]["filename"]
    loaded = named["LoadNoise"].execute(saved + " [output]").args[0]
    assert loaded.generate_noise(latent).equal(noise.generate_noise(latent))
    colours = named["ColorFeatures"].execute("lab", 4).args[0]
    diversity = named["Diversity"].execute(colours, "pairwise", 1.0, {{"target": "none"}}).args[0]
    assert named["Measure"].execute(pictures, diversity).args[1][0] > 0

euler = KSamplerSelect.execute("euler").args[0]
folder_paths.set_output_directory(tempfile.mkdtemp())
for name in sys.argv[1:]:
    with pytest.MonkeyPatch.context() as patch:
        owner, _, last = name.rpartition(".")
        patch.delattr(resolve_name(owner), last)
        if name in sys.modules:
            patch.setitem(sys.modules, name, None)
        load()
"""


def test_the_pack_loads_whole_without_them_and_what_needs_no_gradient_works():
    """One by one, in a ComfyUI of its own, in which the pack is loaded anew each time."""
    done = subprocess.run([sys.executable, "-c", LOADING, *IMPORTED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert [int(count) for count, _ in lines] == [sum(len(group.NODES) for group in GROUPS)] * len(IMPORTED)
    engine = [symbol.name for symbol in SYMBOLS["session"]]
    for name, (_, said) in zip(IMPORTED, lines, strict=True):
        if any(each.startswith(name) for each in engine):
            assert said.startswith("Noise Optimize does not fit this ComfyUI: ") and name in said
        else:
            assert not said

"""Only nodes/host touches ComfyUI's private parts, and lists each: read from the code of the pack itself."""

import ast
import contextlib
import functools
import re
import types
from pkgutil import resolve_name

import pytest
import torch
from pack import ROOT
from torch import Tensor, nn

from noise_optimize.nodes import host
from noise_optimize.nodes.host.symbols import SYMBOLS

PUBLIC = {  # what ComfyUI's own nodes, its API or its run of a graph use as we do
    "comfy.model_management.InterruptProcessingException",
    "comfy.model_management.get_free_memory",
    "comfy.model_management.get_torch_device",
    "comfy.model_management.is_oom",
    "comfy.model_management.load_models_gpu",
    "comfy.model_management.should_use_fp16",
    "comfy.model_management.soft_empty_cache",
    "comfy.model_management.throw_exception_if_processing_interrupted",
    "comfy.model_management.unet_offload_device",
    "comfy.sample.prepare_noise",
    "comfy.samplers.sampler_object",
    "comfy.sd.VAE",
    "comfy.sd.load_diffusion_model",
    "comfy.utils.ProgressBar",
    "comfy.utils.load_torch_file",
    "comfy.utils.repeat_to_batch_size",
    "comfy_api.v0_0_2",
    "comfy_execution.graph_utils.ExecutionBlocker",
    "comfy_execution.utils.get_executing_context",
    "comfyui_version.__version__",
    "folder_paths",
    "server.PromptServer.instance.client_id",
    "server.PromptServer.instance.send_progress_text",
    "server.PromptServer.instance.send_sync",
}
MODELS = {"comfy.sd.VAE", "comfy.sd.load_diffusion_model"}  # public, but what they give is not: behind the door, too
HOST = {name.split(".")[0] for name in PUBLIC} | {
    "comfy_extras",
    "comfy_kitchen",
    "execution",
    "latent_preview",
    "nodes",
}
TORCH = (Tensor, nn.Module, nn.Parameter, nn.Conv2d, torch.Generator)
PYTHON = (
    str, dict, list, tuple, set, type, property, staticmethod, BaseException, re.Pattern, types.FunctionType,
    types.MethodType, types.CodeType, types.CellType, functools.partial, contextlib.ExitStack,
)  # fmt: skip
NOT_OF_THE_HOST = {name for each in (*TORCH, *PYTHON) for name in dir(each)} | {
    "bias",
    "in_features",
    "hexdigest",
    "host_patcher",
}
OF_OURS = (
    "auto", "fast", "low", "patches", "pooled", "noise_optimize", "noise_optimize.starts",
    "host_patcher", "sampler", "_gradients",
)  # fmt: skip
OF_PYTHON = (
    "cpu", "cuda", "dtype", "bicubic", "bilinear", "dinov2", "dinov3", "detach", "contiguous", "no_grad", "enable_grad",
    "inplace", "in_features", "forward", "_orig_mod", "cell_contents", "JPEG", "T", "g", "_", "error", "euler",
)  # fmt: skip
OF_A_LATENT = ("samples", "noise_mask", "batch_index", "spacial", "temporal")
PACKAGES = ("comfy", "comfy.", "comfy_extras", "comfy_kitchen", "comfy_kitchen.backends.eager")
TABLE = list(dict.fromkeys(symbol for symbols in SYMBOLS.values() for symbol in symbols))
DETAILS = [(symbol.name, kind, name) for symbol in TABLE for kind in ("has", "takes", "says")
           for name in getattr(symbol, kind).split()]  # fmt: skip
NAMES = {symbol.name for symbol in TABLE}
LAST = {name.rpartition(".")[2] for name in NAMES}
LISTED = LAST | {name for _, _, name in DETAILS}


def trees(folder):
    files = [file for file in sorted(folder.glob("*.py")) if file.stem not in ("symbols", "compatibility")]
    return {file.name: ast.parse(file.read_text(encoding="utf-8")) for file in files}


NODES, ENGINE = trees(ROOT / "nodes"), trees(ROOT / "nodes" / "host")
del ENGINE["__init__.py"]


def imported(tree):
    """What each name that a file imports stands for, dotted."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def chain(node, names):
    """An attribute of an attribute of an imported name, dotted; None of anything else."""
    if isinstance(node, ast.Attribute):
        owner = chain(node.value, names)
        return owner and f"{owner}.{node.attr}"
    return names.get(node.id) if isinstance(node, ast.Name) else None


def of_the_host(tree):
    """The longest dotted names of the host that a file uses."""
    names = imported(tree)
    found = {chain(node, names) for node in ast.walk(tree) if isinstance(node, (ast.Attribute, ast.Name))}
    found = {name for name in found if name and name.split(".")[0] in HOST}
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def covered(name, known):
    return any(name == each or name.startswith(f"{each}.") for each in known)


def attributes(tree):
    """The attributes that a file looks up on what it did not import."""
    names = imported(tree)
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and not chain(node, names)}


def words(tree):
    """The strings in a file that may be names: in no docstring, and no answers of ours, as in YES, NO = "yes", "no"."""
    nodes = list(ast.walk(tree))
    unpacked = [n.value.elts for n in nodes if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Tuple)
                and isinstance(n.value, ast.Tuple)]  # fmt: skip
    ours = {id(n.value) for n in nodes if isinstance(n, ast.Expr)} | {id(each) for elts in unpacked for each in elts}
    consts = [n for n in nodes if isinstance(n, ast.Constant) and id(n) not in ours]
    return {
        node.value for node in consts if isinstance(node.value, str) and re.fullmatch(r"[A-Za-z_][\w.]*", node.value)
    }


def defined(tree):
    """The names that a file gives to functions, classes and attributes of its own."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            names.add(node.attr)
    return names


OURS = set().union(*(defined(tree) for folder in ("noise", "noise/gradient", "nodes/host")
                     for tree in trees(ROOT / folder).values()))  # fmt: skip


@pytest.mark.parametrize("file", NODES)
def test_a_node_file_uses_nothing_of_the_host_that_is_not_public(file):
    assert not {name for name in of_the_host(NODES[file]) if not covered(name, PUBLIC - MODELS)}


@pytest.mark.parametrize("file", NODES)
def test_a_node_file_looks_at_nothing_inside_what_comes_in_by_wires(file):
    """Told by names that are no English word, but for torch's own of a nested tensor, and those that tell a wire."""
    private = {name for _, kind, name in DETAILS if kind != "takes" and "_" in name.strip("_")}
    private -= {"is_nested", "max_denoise", "set_conds", "__wrapped__"} | OURS
    assert not private & (attributes(NODES[file]) | words(NODES[file]))


@pytest.mark.parametrize("file", NODES)
def test_a_node_file_comes_in_by_the_door(file):
    nodes = list(ast.walk(NODES[file]))
    assert not [n for n in nodes if isinstance(n, ast.ImportFrom) and n.level and (n.module or "").startswith("host")]
    used = {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "host"}
    assert used <= {name for modules in host.DOORS.values() for names in modules.values() for name in names}


@pytest.mark.parametrize("file", ENGINE)
def test_every_private_name_that_the_engine_uses_is_listed(file):
    switched = {"comfy.model_management", "comfy.cli_args.args"}  # by names that are listed
    listed = {name for name in NAMES if not isinstance(found(name), types.ModuleType)}
    listed |= PUBLIC | {f"{owner}.{name}" for owner, kind, name in DETAILS if kind == "has"}
    assert not {name for name in of_the_host(ENGINE[file]) if not covered(name, listed)} - NAMES - switched


def found(name):
    with contextlib.suppress(ImportError, AttributeError):
        return resolve_name(name)


@pytest.mark.parametrize("file", ENGINE)
def test_every_attribute_and_key_that_the_engine_looks_up_is_listed(file):
    assert not attributes(ENGINE[file]) - LISTED - NOT_OF_THE_HOST - OURS
    keys = words(ENGINE[file]) - LISTED - NAMES - {*OF_OURS, *OF_PYTHON, *OF_A_LATENT, *PACKAGES}
    begin = {key for key in keys if key.endswith("_") and any(name.startswith(key) for name in LISTED)}
    assert not {key for key in keys - begin if not key.startswith("__")}


def test_nothing_is_listed_that_the_engine_does_not_use():
    used = set()
    for tree in ENGINE.values():
        whole = attributes(tree) | words(tree) | of_the_host(tree)
        used |= whole | {part for name in whole for part in name.split(".")}
        used |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    beginnings = tuple(name for name in used if name.endswith("_") and name.strip("_"))
    bare = [symbol.name.rpartition(".")[2] for symbol in TABLE if not symbol.has + symbol.takes + symbol.says]
    for name in [*bare, *(name for _, kind, name in DETAILS if kind != "takes")]:
        assert name in used or name.startswith(beginnings)


def test_everything_is_listed_once():
    assert len(DETAILS) == len(set(DETAILS)) > 50
    assert len({(symbol.name, symbol.purpose) for symbol in TABLE}) == len(TABLE) > 50


def test_the_map_shows_every_symbol():
    def relied_on(symbol):
        has, says = ([form.format(name) for name in names.split()] for form, names in
                     (("`.{}`", symbol.has), ('`"{}"`', symbol.says)))  # fmt: skip
        return " ".join([*has, *([f"`({', '.join(symbol.takes.split())})`"] if symbol.takes else []), *says])

    rows = [f"| `{symbol.name}` | {relied_on(symbol)} | {symbol.purpose} |" for symbol in TABLE]
    table = "\n".join(["| symbol | relied on | what for |", "|---|---|---|", *rows])
    assert table in (ROOT / "nodes" / "host" / "README.md").read_text(encoding="utf-8"), f"write there:\n{table}"

"""The pack as the host sees it while it starts."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import comfyui
import pytest
from comfy_config.config_parser import extract_node_configuration
from comfyui_workflow_templates import get_asset_path, iter_templates
from pack import ROOT
from packaging.specifiers import SpecifierSet
from workflow import nodes

import noise_optimize.nodes as pack_nodes

HEAVY = ("open_clip", "lpips", "timm", "torchvision", "kornia", "matplotlib", "cma")
HOST = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "latent_preview")
SHIPPED = (ROOT / "example_workflows", ROOT / "subgraphs")
SCHEMAS = [node.GET_SCHEMA() for group in pack_nodes.GROUPS for node in group.NODES]

IMPORT = f"""
import sys
sys.path[:0] = [{str(comfyui.COMFYUI)!r}, {str(ROOT / "tests" / "support")!r}]
from comfy.cli_args import args
args.cpu = True
import comfy_api.v0_0_2, nodes, torch
import pack
for module in [*sys.modules, *{HEAVY}]:
    if module.split(".")[0] in {HEAVY}:
        sys.modules[module] = None
sys.stdout.flush(), sys.stderr.flush()
random = torch.get_rng_state()
print("imported:", end="")
pack.register()
import noise_optimize.nodes
assert noise_optimize.nodes.GROUPS
assert torch.equal(random, torch.get_rng_state()), "the import drew random numbers"
print("end", end="")
"""


def test_the_pack_loads_in_silence_with_no_heavy_module_in_sight():
    """With every heavy module blocked, an import of one at the top of any of our modules would raise."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("imported:end")


def names_of_the_host(file):
    """Each name of the host's modules that a file of the pack uses, as module and attribute."""
    tree = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    modules, names = {}, set()
    for node in tree:
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {(node.module, alias.name) for alias in node.names}
    for node in tree:
        if isinstance(node, ast.Attribute) and (module := modules.get(ast.unparse(node.value))):
            names.add((module, node.attr))
    return {(module, name) for module, name in names if module.split(".")[0] in HOST}


def test_every_name_of_the_host_that_the_pack_uses_is_there():
    """So that an older or newer host fails here, and not in some branch of a node."""
    used = set().union(*(names_of_the_host(file) for file in (ROOT / "nodes").rglob("*.py")))
    assert ("folder_paths", "get_output_directory") in used and ("comfy.samplers", "Sampler") in used
    for module, name in sorted(used):
        resolve_name(f"{module}.{name}")


def test_ids_start_with_the_packs_name_and_are_unique():
    ids = [schema.node_id for schema in SCHEMAS]
    assert ids and all(re.fullmatch(r"NoiseOptimize[A-Za-z]*", name) for name in ids)
    assert len(set(ids)) == len(ids)


def test_every_module_with_nodes_is_listed():
    listed = {group.__name__.rsplit(".", 1)[1] for group in pack_nodes.GROUPS}
    written = {file.stem for file in (ROOT / "nodes").glob("*.py") if "\nNODES" in file.read_text(encoding="utf-8")}
    assert listed == written


def test_no_example_has_the_name_of_an_official_template_or_of_another_packs():
    """The frontend searches templates by their names, and finds nothing any more where two are the same."""
    official = {template.template_id.lower() for template in iter_templates()}
    ours = [path.stem for path in (ROOT / "example_workflows").glob("*.json")]
    assert len(official) > 100 and ours
    assert not official & {name.lower() for name in ours}
    assert all(re.fullmatch(r"Noise Optimize \d+ - [A-Z][\w .,()-]+", name) for name in ours)


def models(graph):
    """What a graph says of the files that its loaders name: (file, address, folder)."""
    for node in nodes(graph):
        for model in node.get("properties", {}).get("models") or ():
            yield model["name"], model["url"].removesuffix("?download=true"), model["directory"]


def test_every_file_of_a_model_is_named_as_an_official_template_names_it():
    """None is made up: name, address and folder stand in a template that ComfyUI brings."""
    paths = (get_asset_path(template.template_id, f"{template.template_id}.json") for template in iter_templates())
    graphs = (json.loads(Path(path).read_text(encoding="utf-8")) for path in paths)
    official = {model for graph in graphs if "nodes" in graph for model in models(graph)}
    ours = [json.loads(path.read_text(encoding="utf-8")) for folder in SHIPPED for path in folder.glob("*.json")]
    named = {model for graph in ours for model in models(graph)}
    assert len(named) > 10 and named <= official


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.node_id)
def test_every_node_says_what_it_is(schema):
    assert schema.description and schema.display_name and schema.search_aliases
    assert schema.category.split("/")[0] == "noise optimize"


def test_the_host_reads_our_metadata():
    configuration = extract_node_configuration(str(ROOT))
    assert configuration.project.name == "noise-optimize"
    assert configuration.project.supported_os == ["OS Independent"]
    assert configuration.tool_comfy.publisher_id and configuration.tool_comfy.icon
    assert comfyui.version() in SpecifierSet(configuration.project.supported_comfyui_version)


def test_we_ask_for_nothing_that_the_host_brings():
    host = (comfyui.COMFYUI / "requirements.txt").read_text(encoding="utf-8")
    brought = {re.split(r"[<>=~]", line)[0].strip().lower() for line in host.splitlines()}
    asked = extract_node_configuration(str(ROOT)).project.dependencies
    assert not brought & {word.lower() for word in asked}
    assert all(re.fullmatch(r"[A-Za-z_-]+", word) for word in asked), "a version of ours could fight the host's"

"""What a node says when it fails."""

import inspect
import sys
from pathlib import Path
from types import SimpleNamespace

import comfy.model_management
import folder_paths
import pytest
import torch
from comfy_api.v0_0_2 import io
from comfy_execution.utils import CurrentNodeContext

from noise_optimize.nodes import GROUPS
from noise_optimize.nodes.monitor import write
from noise_optimize.nodes.node import Node
from noise_optimize.noise.patterns import NoiseSet
from noise_optimize.noise.set_files import save_set

WRONG = ValueError("seed is odd; set an even one.")


class Picky(Node):
    @classmethod
    def define_schema(cls):
        return io.Schema("Picky", inputs=[io.Int.Input("seed")], outputs=[io.Int.Output()])

    @classmethod
    def execute(cls, seed):
        if seed < 0:
            raise comfy.model_management.InterruptProcessingException
        if seed % 2:
            raise WRONG
        return io.NodeOutput(seed)


class Picked(Picky):
    pass


@pytest.fixture
def written(monkeypatch):
    """(node id, text) of all that was written into nodes."""
    texts = []

    def send_progress_text(text, node_id):
        texts.append((node_id, text))

    host = SimpleNamespace(
        PromptServer=SimpleNamespace(instance=SimpleNamespace(send_progress_text=send_progress_text))
    )
    monkeypatch.setitem(sys.modules, "server", host)
    return texts


def run(node, seed, node_id="7"):
    """As the host runs a node: a copy of its class, in the context of its id."""
    copy = node.PREPARE_CLASS_CLONE(None)
    with CurrentNodeContext("prompt", node_id):
        return copy.EXECUTE_NORMALIZED(seed=seed)


@pytest.mark.parametrize("node", [Picky, Picked])
def test_the_sentence_is_written_into_the_node_once_and_goes_on_unchanged(node, written):
    with pytest.raises(ValueError) as told:
        run(node, 3)
    assert told.value is WRONG
    assert written == [("7", str(WRONG))]
    assert run(node, 4, node_id="8").result == (4,)
    assert written == [("7", str(WRONG))]
    assert run(node, 4).result == (4,) and written[1:] == [("7", " ")]
    assert run(node, 4).result == (4,) and len(written) == 2


def test_a_schema_is_made_once_for_all_runs_and_each_class_has_its_own(written):
    made = []

    class Counting(Picky):
        @classmethod
        def define_schema(cls):
            made.append(cls)
            return io.Schema("Counting", inputs=[io.Int.Input("seed", max=6)], outputs=[io.Int.Output()])

    run(Picky, 8)
    Counting.GET_SCHEMA()
    assert [run(Counting, seed).result for seed in (2, 4)] == [(2,), (4,)] and len(made) == 1
    with pytest.raises(ValueError, match="seed is 8"):
        run(Counting, 8, node_id="9")


def lists():
    """The options of every list of the pack's nodes."""
    every = [node for group in GROUPS for node in group.NODES]
    return {
        (node, each.id): list(each.options)
        for node in every
        for each in node.define_schema().inputs
        if isinstance(each, io.Combo.Input)
    }


def test_options_that_change_while_the_host_runs_are_looked_at_by_their_nodes():
    """Those are files: what is checked by a schema that was made once must not know of any."""
    before, path = lists(), Path(folder_paths.get_input_directory(), "set_of_test_node.safetensors")
    save_set(path, NoiseSet(torch.ones(2, 4, 3, 3)))
    after = lists()
    path.unlink()
    changed = {place for place in after if after[place] != before[place]}
    assert len(changed) == 4
    for node, name in changed:
        assert name in inspect.signature(node.validate_inputs).parameters


def test_lines_stay_apart_where_the_text_is_read_as_markdown(written):
    write("iteration 1\nvariety 0.5", "7")
    assert written == [("7", "iteration 1  \nvariety 0.5")]


def test_a_cancel_writes_nothing_and_so_does_a_node_outside_a_graph(written):
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(Picky, -1)
    with pytest.raises(ValueError, match="even"):
        Picky.execute(3)
    assert not written


def test_every_node_of_the_pack_speaks():
    from noise_optimize.nodes import GROUPS

    assert all(issubclass(node, Node) for group in GROUPS for node in group.NODES)

"""What a node says when it fails."""

import sys
from types import SimpleNamespace

import comfy.model_management
import pytest
from comfy_api.v0_0_2 import io
from comfy_execution.utils import CurrentNodeContext

from noise_optimize.nodes.monitor import write
from noise_optimize.nodes.node import Node

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

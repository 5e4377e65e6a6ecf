"""The ComfyUI that a study starts for itself, by a stand-in: it ends with who started it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pack import ROOT
from study import comfy, own_comfy
from study.graphs import node

STAND_IN = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps([os.getppid(), *sys.argv]).encode())

    def do_POST(self):
        self.send_response(400)
        self.end_headers()
        errors = [{"message": "Value not in list", "details": "ckpt_name: 'x'"}]
        node_errors = {"1": {"class_type": "Loader", "errors": errors}}
        self.wfile.write(json.dumps({"error": {"message": "invalid"}, "node_errors": node_errors}).encode())

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Answer).serve_forever()
"""
HOLDER = """
import sys, time
from study import own_comfy
with own_comfy.started(sys.argv[1], sys.executable) as client:
    words = client.get("system_stats")
    print(client.address, words[words.index("--temp-directory") + 1], flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(STAND_IN, encoding="utf-8")
    return tmp_path


def answers(address):
    try:
        return comfy.Client(address).get("system_stats")
    except OSError:
        return None


def gone(condition):
    """Whether it ends within a while."""
    for _ in range(200):
        if not condition():
            return True
        time.sleep(0.05)
    return False


def test_it_is_our_child_with_our_arguments_and_ends_with_the_block(folder):
    with own_comfy.started(str(folder), sys.executable, ("--cpu",)) as client:
        parent, program, *words = client.get("system_stats")
        assert parent == os.getpid()  # no process is between us that might be killed alone
        assert Path(program) == folder / "main.py" and "--cpu" in words
    assert gone(lambda: answers(client.address))
    assert not Path(words[words.index("--temp-directory") + 1]).exists()


def test_it_ends_and_leaves_no_file_when_its_worker_is_killed(folder):
    words = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(words, cwd=ROOT / "tests", stdout=subprocess.PIPE, text=True) as holder:
        address, scratch = holder.stdout.readline().split()
        assert answers(address) and Path(scratch).exists()
        holder.kill()
    assert gone(lambda: answers(address))
    assert gone(lambda: Path(scratch).exists())


def test_one_that_does_not_start_says_why(folder):
    (folder / "main.py").write_text("raise SystemExit('no torch here')", encoding="utf-8")
    reason = pytest.raises(comfy.Refused, match="(?s)did not start.*no torch here")
    with reason, own_comfy.started(str(folder), sys.executable):
        pass


def test_a_refused_graph_says_which_node_and_why(folder):
    with own_comfy.started(str(folder), sys.executable) as client, pytest.raises(comfy.Refused) as refusal:
        client.run({"1": node("Loader", ckpt_name="x")})
    assert str(refusal.value) == "Loader: Value not in list: ckpt_name: 'x'"

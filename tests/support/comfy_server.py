"""A real ComfyUI of its own, in a temporary base directory, driven only through HTTP and WebSocket."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any

import comfyui
import websocket
from PIL import Image
from safetensors.torch import load
from torch import Tensor

Graph = dict[str, dict[str, Any]]
PREVIEW, PREVIEW_WITH_METADATA = 1, 4


class GraphError(RuntimeError):
    """A graph that the host refused or that failed while it ran; str() is what the user would read.

    node: the id of the node at fault, or None. details: the host's own record of the error.
    """

    def __init__(self, message: str, node: str | None, details: dict) -> None:
        super().__init__(message)
        self.node, self.details = node, details


class Interrupted(GraphError):
    """The graph was cancelled."""


@dataclass
class Run:
    """What one posted graph did: its outputs by node id, and all that the socket said meanwhile.

    previews: (node id, picture) in order of arrival; the id is None where the host did not name the node.
    """

    server: Server
    prompt_id: str
    events: list[dict] = field(default_factory=list)
    previews: list[tuple[str | None, Image.Image]] = field(default_factory=list)
    outputs: dict[str, dict] = field(default_factory=dict)

    def progress(self, node: str) -> list[tuple[float, float]]:
        """(value, max) of the node's progress bar, in order."""
        return [
            (event["data"]["value"], event["data"]["max"])
            for event in self.events
            if event["type"] == "progress" and event["data"]["node"] == node
        ]

    def images(self, node: str) -> list[Image.Image]:
        """The pictures of a Save Image or Preview Image node."""
        return [Image.open(BytesIO(self.server.file(**entry))).convert("RGB") for entry in self.outputs[node]["images"]]

    def latent(self, node: str) -> Tensor:
        """The latents of a Save Latent node, as they are on its wire."""
        (entry,) = self.outputs[node]["latents"]
        return load(self.server.file(**entry))["latent_tensor"]

    def text(self, node: str) -> str:
        """The text of a Preview as Text node."""
        return "".join(self.outputs[node]["text"])


class Server:
    """ComfyUI on the CPU and a free port, with `packs` (name: folder) linked in as its custom nodes.

    Use as a context manager, or call `start` and `stop`. Nothing outside `base` is written. Results are not cached
    between graphs, so the same graph posted twice is computed twice. startup: what the host said while it started.
    """

    def __init__(self, base: Path, packs: Mapping[str, Path], arguments: tuple[str, ...] = ()) -> None:
        self.base, self.packs, self.arguments = base, packs, arguments
        self.console_file = base / "console.log"
        self.process: subprocess.Popen | None = None
        self.address = self.startup = ""

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def log(self) -> str:
        """Everything that the host printed so far."""
        return self.console_file.read_text(encoding="utf-8", errors="replace")

    def start(self, timeout: float = 600) -> Server:
        """Start the host and wait until it answers; RuntimeError with its log if it does not."""
        for folder in ("models", "input", "output", "temp", "user", "custom_nodes"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        for name, folder in self.packs.items():
            comfyui.link(folder, self.base / "custom_nodes" / name)
        self.address = f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-X", "faulthandler", str(comfyui.COMFYUI / "main.py"), "--cpu", "--cache-none"]
        command += ["--port", self.address.split(":")[1], "--base-directory", str(self.base)]
        command += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes", "--disable-auto-launch"]
        command += ["--verbose", "INFO", *self.arguments]
        quiet = {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "PYTHONIOENCODING": "utf-8"}
        quiet["OMP_NUM_THREADS"] = "1"  # tiny models: a second thread beside a busy core makes them ten times slower
        with self.console_file.open("wb") as console:
            self.process = subprocess.Popen(
                command, cwd=comfyui.COMFYUI, env=os.environ | quiet, stdout=console, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("system_stats")
                self.startup = self.log
                return self
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise RuntimeError(f"ComfyUI did not start. Its log:\n{self.log}")

    def stop(self) -> None:
        """Stop the host, gently first."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def request(self, path: str, body: dict | None = None, **query: str) -> bytes:
        """The raw answer to a GET, or to a POST of `body` as JSON."""
        url = f"{self.url}/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:  # noqa: S310
            return answer.read()

    def get(self, path: str, **query: str) -> Any:
        return json.loads(self.request(path, **query))

    def post(self, path: str, body: dict) -> Any:
        return json.loads(self.request(path, body) or b"null")

    def file(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        """A file that a node saved, through the host's own /view."""
        return self.request("view", filename=filename, subfolder=subfolder, type=type)

    def interrupt(self) -> None:
        """What the Cancel button does."""
        self.post("interrupt", {})

    def run(self, graph: Graph, on_event: Callable[[dict], None] | None = None, timeout: float = 180) -> Run:
        """Post a graph in API format and follow it to its end; GraphError where the host refuses it or a node fails.

        on_event: called with every JSON message of the socket, e.g. to interrupt in the middle.
        timeout: seconds without a word from the host after which it counts as hung.
        """
        client = uuid.uuid4().hex
        channel = websocket.create_connection(f"ws://{self.address}/ws?clientId={client}", timeout=timeout)
        try:
            channel.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
            try:
                answer = self.post("prompt", {"prompt": graph, "client_id": client})
            except urllib.error.HTTPError as refusal:
                raise refused(json.loads(refusal.read())) from None
            run = Run(self, answer["prompt_id"])
            self._follow(channel, run, on_event)
        except websocket.WebSocketTimeoutException:
            raise RuntimeError(f"ComfyUI said nothing for {timeout} s. Its log:\n{self.log}") from None
        finally:
            channel.close()
        run.outputs = self.get(f"history/{run.prompt_id}")[run.prompt_id]["outputs"]
        return run

    def _follow(self, channel: websocket.WebSocket, run: Run, on_event: Callable[[dict], None] | None) -> None:
        """Read the socket until the host has written the graph into its history and is idle again."""
        failure: GraphError | None = None
        while True:
            message = channel.recv()
            if isinstance(message, bytes):
                if preview := read_preview(message):
                    run.previews.append(preview)
                continue
            event = json.loads(message)
            run.events.append(event)
            if on_event is not None:
                on_event(event)
            data = event["data"]
            if data.get("prompt_id") != run.prompt_id:
                continue
            if event["type"] == "execution_error":
                failure = GraphError(data["exception_message"].strip(), data["node_id"], data)
            elif event["type"] == "execution_interrupted":
                failure = Interrupted("The graph was cancelled.", data["node_id"], data)
            elif event["type"] == "executing" and data["node"] is None:
                break
        if failure is not None:
            raise failure


def refused(answer: dict) -> GraphError:
    """The error of a graph that did not pass the host's validation."""
    for node, found in answer["node_errors"].items():
        reason = found["errors"][0]
        return GraphError(f"{reason['message']}: {reason['details']}", node, answer)
    return GraphError(answer["error"]["message"], None, answer)


def read_preview(message: bytes) -> tuple[str | None, Image.Image] | None:
    """(node id, picture) of a binary message; None if it is no preview."""
    kind, second = struct.unpack(">II", message[:8])
    if kind == PREVIEW:
        return None, Image.open(BytesIO(message[8:]))
    if kind == PREVIEW_WITH_METADATA:
        metadata = json.loads(message[8 : 8 + second])
        return metadata.get("node_id"), Image.open(BytesIO(message[8 + second :]))
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

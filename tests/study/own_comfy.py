"""A ComfyUI that a study starts for itself, and that ends with who started it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .comfy import Client, Refused

# Runs the program that its second word names until nobody holds our end of its standard input; then it removes the
# folder that its first word names: a worker that is killed leaves neither a ComfyUI nor its files behind. It is one
# process with the program, since Ray kills the children of a worker, but not theirs.
LEASH = """
import os, runpy, shutil, sys, threading
_, scratch, program, *rest = sys.argv
def watch():
    os.read(0, 1)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
sys.argv, sys.path[0] = [program, *rest], os.path.dirname(program)
runpy.run_path(program, run_name="__main__")
"""


@contextlib.contextmanager
def started(folder: str, python: str, arguments: Sequence[str] = (), patience: float = 600) -> Iterator[Client]:
    """A ComfyUI of our own on a free port, from its folder, with its models and packs; its pictures are not kept.

    python: the interpreter that runs it. arguments: of ComfyUI. Refused with the end of its log where it does not start
    within `patience` seconds. On a GPU it takes the first that CUDA_VISIBLE_DEVICES lists.
    """
    port, scratch = free_port(), Path(tempfile.mkdtemp(prefix="study"))
    command = [python, "-c", LEASH, str(scratch), str(Path(folder, "main.py")), "--port", str(port)]
    command += ["--output-directory", str(scratch), "--temp-directory", str(scratch)]
    command += ["--disable-auto-launch", "--database-url", "sqlite:///:memory:", *arguments]
    log, process = scratch / "console.log", None
    try:
        with log.open("wb") as console:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE, stdout=console, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "DO_NOT_TRACK": "1"},
            )  # fmt: skip
        yield answering(Client(f"http://127.0.0.1:{port}"), process, log, patience)
    finally:
        if process is not None:
            process.stdin.close()
            process.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def answering(client: Client, process: subprocess.Popen[bytes], log: Path, patience: float) -> Client:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            client.get("system_stats")
            return client
        time.sleep(0.2)
    said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    raise Refused(f"ComfyUI did not start. The end of its log:\n{said[-2000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

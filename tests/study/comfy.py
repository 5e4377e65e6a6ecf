"""A ComfyUI that is running, by its HTTP interface alone."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

from .graphs import Graph

OFTEN = 0.1  # seconds between two looks at whether a graph has ended


class Refused(RuntimeError):
    """A graph that ComfyUI refused, or that failed in it, in its own words."""


class Client:
    """A ComfyUI that is running. OSError where it cannot be reached."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def request(self, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        asked = urllib.request.Request(f"{self.address}/{path}", body, {"Content-Type": kind})  # noqa: S310
        with urllib.request.urlopen(asked, timeout=600) as answer:  # noqa: S310
            return answer.read()

    def get(self, path: str) -> Any:
        return json.loads(self.request(path))

    def defaults(self, kind: str) -> dict[str, Any]:
        """The widgets of a class of nodes as they are when it is new."""
        found = {}
        described = self.get(f"object_info/{kind}")[kind]["input"]
        for name, (type_, *options) in {**described.get("required", {}), **described.get("optional", {})}.items():
            more = options[0] if options else {}
            choices = type_ if isinstance(type_, list) else more.get("options", [])
            if choices and isinstance(choices[0], dict):
                found[name] = choices[0]["key"]
            elif "default" in more or choices:
                found[name] = more["default"] if "default" in more else choices[0]
        return found

    def run(self, graph: Graph) -> dict[str, Any]:
        """The outputs of a graph, when it has ended; Refused where it did not succeed."""
        try:
            name = json.loads(self.request("prompt", json.dumps({"prompt": graph}).encode()))["prompt_id"]
        except urllib.error.HTTPError as error:
            raise Refused(refusal(error.read().decode())) from error
        while not (done := self.get(f"history/{name}")).get(name):
            time.sleep(OFTEN)
        status = done[name]["status"]
        if status["status_str"] != "success":
            kind, said = status["messages"][-1]
            raise Refused(f"{said.get('node_type', '')}: {said.get('exception_message', kind).strip()}".strip(": "))
        return done[name]["outputs"]

    def fetch(self, entry: dict[str, str]) -> bytes:
        """A file that a node wrote."""
        return self.request(f"view?{urllib.parse.urlencode(entry)}")

    def upload(self, name: str, content: bytes) -> str:
        """A picture into ComfyUI's temporary folder; what Load Image calls it."""
        edge = uuid.uuid4().hex
        fields = {"type": "temp", "overwrite": "true"}
        lines = [f'--{edge}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
        lines.append(
            f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: image/png\r\n\r\n"
        )
        body = "".join(lines).encode() + content + f"\r\n--{edge}--\r\n".encode()
        self.request("upload/image", body, f"multipart/form-data; boundary={edge}")
        return f"{name} [temp]"


def refusal(answer: str) -> str:
    """What is wrong with a graph that did not pass ComfyUI's checks, in one line."""
    try:
        said = json.loads(answer)
    except json.JSONDecodeError:
        return answer[:500]
    for found in (said.get("node_errors") or {}).values():
        reason = found["errors"][0]
        return f"{found['class_type']}: {reason['message']}: {reason['details']}"
    return said["error"]["message"]


@contextlib.contextmanager
def at(address: str) -> Iterator[Client]:
    """The ComfyUI at an address, which runs already."""
    yield Client(address)

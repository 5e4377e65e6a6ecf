"""The developer's one command, on every system: `python dev.py test`, or another of the tasks below.

The first run makes `.venv` and, for what runs in it, finds or installs ComfyUI (COMFYUI_PATH, else ~/comfy/ComfyUI);
later runs start at once. `oldest` runs some tests in the oldest ComfyUI that the pack supports (COMFYUI_OLDEST_PATH,
else ~/comfy/ and its version), and so does `test` where that is installed; `perturb` runs tests in random order, with
random bytes in new memory. What follows the task goes to it: `python dev.py test tests/maths -k pink`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import chromium
import comfyui

ENVIRONMENT = ROOT / ".venv"
ALIAS = ROOT / ".mypy_cache" / "alias"
HOST_FREE = ("tests/maths", "tests/test_dev.py", "tests/test_help.py", "tests/test_packaging.py", "tests/test_words.py")
BROWSER = "tests/browser"
STAMP = ENVIRONMENT / "noise_optimize.json"
HOST_VERSION = "0.33.0"
OLDEST = (  # what runs in the oldest ComfyUI, too
    "tests/host/test_architectures.py::test_the_gradient_is_that_of_finite_differences",
    "tests/host/test_host.py",
    "tests/host/test_optimize_nodes.py",
    "tests/host/test_pack.py",
    "tests/host/test_places.py",
    "tests/host/test_sampler_gradients.py",
    "tests/host/test_seeds.py",
    "tests/host/test_starts.py",
    "tests/host/test_session.py::test_without_gradient_it_samples_bit_for_bit_as_the_host",
    "tests/host/test_version.py",
    "tests/graphs/test_noise.py",
    "tests/graphs/test_server.py",
    "tests/graphs/test_optimize.py::test_no_iterations_are_the_hosts_own_sampler_and_the_noise_found_works_in_it",
)
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
TORCHVISION_BEHIND = 15  # torch 2.11 goes with torchvision 0.26 and torchaudio 2.11
EACH_CORE = ("-n", str(min(4, os.cpu_count() or 1)), "--dist", "worksteal")
UV = shutil.which("uv")


class Failure(Exception):
    """What stops a task, in one sentence."""


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    """Run a command in the clone with no one at the keyboard; Failure where it fails.

    Bytecode is kept in the environment, not beside the sources: without any, starting the host takes half a minute.
    """
    words = [str(word) for word in command]
    settings = os.environ | {"DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"} | environment
    settings |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(ENVIRONMENT / "bytecode")}
    code = subprocess.run(words, cwd=cwd, env=settings, stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        raise Failure(f"`{' '.join(words)}` ended with code {code}.")


def make_environment(folder: Path) -> None:
    if UV:
        run(UV, "venv", "--quiet", "--python", sys.executable, folder)
    else:
        run(sys.executable, "-m", "venv", folder)


def install(environment: Path, *requirements: str | Path) -> None:
    python = python_of(environment)
    run(*((UV, "pip", "install", "--python", python) if UV else (python, "-m", "pip", "install")), *requirements)


def find_host(folder: Path, version: str) -> None:
    """A host, of this version installed with comfy-cli where it is missing; Failure where it cannot be had."""
    try:
        comfyui.version(folder)
        return
    except FileNotFoundError as missing:
        reason = str(missing)
    say(f"ComfyUI is not at {folder}: installing version {version} there with comfy-cli")
    tool = ENVIRONMENT / "comfy-cli"
    wanted = ("--version", version, "--cpu", "--skip-manager", "--skip-torch-or-directml", "--skip-requirement")
    try:
        make_environment(tool)
        install(tool, "comfy-cli")
        comfy = python_of(tool).with_name("comfy.exe" if os.name == "nt" else "comfy")
        run(comfy, "--skip-prompt", "--workspace", folder, "install", *wanted)
        comfyui.version(folder)
    except (Failure, FileNotFoundError):
        raise Failure(f"{reason} Installing it with comfy-cli did not work; see above.") from None


def fitting_torch() -> bool:
    """Whether the environment has a torch, torchvision and torchaudio that go together, of whatever build."""
    names = [word.split("==")[0] for word in TORCH]
    code = f"from importlib.metadata import version; print(*map(version, {names}))"
    asked = subprocess.run([python_of(ENVIRONMENT), "-c", code], capture_output=True, text=True, check=False)
    if asked.returncode:
        return False
    torch, vision, audio = (int(re.match(r"\d+\.(\d+)", word).group(1)) for word in asked.stdout.split())
    return torch == audio == vision - TORCHVISION_BEHIND


def setup(host: bool) -> None:
    """The environment with our requirements and ComfyUI's, unless it is there already and nothing changed.

    host: whether ComfyUI is wanted; without, what it would bring is installed instead.
    """
    if not python_of(ENVIRONMENT).exists():
        say(f"making {ENVIRONMENT.name}")
        make_environment(ENVIRONMENT)
    lists = [ROOT / "requirements.txt", ROOT / "pyproject.toml"]
    if host:
        find_host(comfyui.COMFYUI, HOST_VERSION)
        lists.append(comfyui.COMFYUI / "requirements.txt")
    installed = json.loads(STAMP.read_text(encoding="utf-8")) if STAMP.exists() else {}
    state = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in lists}
    if state.items() <= installed.items():
        return
    if not fitting_torch():
        say("installing torch")
        install(ENVIRONMENT, *TORCH)
    say(f"installing the requirements of the pack, of its tests{' and of ComfyUI' if host else ''}")
    brought = ("-r", lists[-1]) if host else requirements("alone")
    install(ENVIRONMENT, "-r", lists[0], *requirements("test"), *brought)
    STAMP.write_text(json.dumps(installed | state, indent=1), encoding="utf-8")


def requirements(extra: str) -> list[str]:
    """An extra of pyproject.toml, without building the pack."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"([^"]+)"', re.search(rf"^{extra} = \[(.*?)\]", text, re.DOTALL | re.MULTILINE).group(1))


def asked(arguments: Sequence[str]) -> list[Path]:
    """The files and folders among the arguments of pytest, or all tests."""
    paths = [ROOT / word.split("::")[0] for word in arguments if not word.startswith("-")]
    return [path.resolve() for path in paths if path.exists()] or [ROOT / "tests"]


def needs_host(task: str, arguments: Sequence[str]) -> bool:
    """Whether ComfyUI is run: by all but lint, types and the tests of the maths."""
    free = [ROOT / path for path in HOST_FREE]
    tests_maths = all(any(path.is_relative_to(each) for each in free) for path in asked(arguments))
    return task not in ("lint", "types") and not (task == "test" and tests_maths)


def needs_browser(arguments: Sequence[str]) -> bool:
    tier = ROOT / BROWSER
    return any(path.is_relative_to(tier) or tier.is_relative_to(path) for path in asked(arguments))


def find_chromium() -> str:
    """A Chromium for the browser tests; on Debian, root installs it."""
    if not chromium.find() and shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        say("installing Chromium")
        run("apt-get", "update", "-q")
        run("apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium", DEBIAN_FRONTEND="noninteractive")
    if found := chromium.find():
        return found
    raise Failure("The browser tests need Chromium: install it, or set CHROMIUM_PATH to its program file.")


def lint(*arguments: str) -> None:
    """Ruff on everything or on the files named, and types."""
    for check in (("check",), ("format", "--check")):
        run(python_of(ENVIRONMENT), "-m", "ruff", *check, *(arguments or (".",)))
    types()


def types() -> None:
    """Mypy on the pack, under its real package name whatever the clone is called."""
    if not (ALIAS / "noise_optimize").exists():
        ALIAS.mkdir(parents=True, exist_ok=True)
        comfyui.link(ROOT, ALIAS / "noise_optimize")
    packages = [word for half in ("noise", "objectives", "nodes") for word in ("-p", f"noise_optimize.{half}")]
    run(python_of(ENVIRONMENT), "-m", "mypy", "--config-file", ROOT / "pyproject.toml", *packages, cwd=ALIAS)


def test(*arguments: str) -> None:
    """Lint, types and every test, a process and a ComfyUI for each core; with arguments, pytest alone with those."""
    if arguments:
        run_pytest(*arguments)
        return
    lint()
    run_pytest(*EACH_CORE)
    if comfyui.OLDEST.exists() or "COMFYUI_OLDEST_PATH" in os.environ:
        oldest()
    else:
        missing = f"ComfyUI {comfyui.OLDEST_VERSION}, the oldest that the pack supports, is not at {comfyui.OLDEST}"
        say(f"NOT TESTED: {missing}; `python dev.py oldest` installs it.")


def oldest(*arguments: str) -> None:
    """Some tests, or those named, in the oldest ComfyUI that the pack supports: with the packages of the newest."""
    find_host(comfyui.OLDEST, comfyui.OLDEST_VERSION)
    if (found := comfyui.version(comfyui.OLDEST)) != comfyui.OLDEST_VERSION:
        raise Failure(
            f"{comfyui.OLDEST} is ComfyUI {found}; the oldest is {comfyui.OLDEST_VERSION}: install that there."
        )
    say(f"ComfyUI {found}, the oldest that the pack supports")
    run_pytest(*(arguments or (*OLDEST, *EACH_CORE)), COMFYUI_PATH=str(comfyui.OLDEST))


def perturb(*arguments: str) -> None:
    """The tests of the maths and of the nodes, or those named, ten times: what depends on chance fails in some.

    Each time in another order, and with other bytes in memory that nobody has written to yet (where malloc is glibc's).
    """
    for order, byte in enumerate(range(1, 256, 28), 1):
        say(f"order {order}, MALLOC_PERTURB_={byte}")
        memory = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_PERTURB_": str(byte)}
        run_pytest(*(arguments or ("tests/maths", "tests/host", "-q", *EACH_CORE)), TEST_ORDER=str(order), **memory)


def run_pytest(*arguments: str, **environment: str) -> None:
    pytest = python_of(ENVIRONMENT).with_name("pytest.exe" if os.name == "nt" else "pytest")
    browser = {"CHROMIUM_PATH": find_chromium()} if needs_browser(arguments) else {}
    run(pytest, *arguments, OMP_NUM_THREADS="1", **browser, **environment)


def demo(*arguments: str) -> None:
    """The demo, on the small models that come with the pack: on one thread, as their tensors are too small for more."""
    run(python_of(ENVIRONMENT), ROOT / "tests" / "demo" / "run.py", *arguments, OMP_NUM_THREADS="1")


def bench(*arguments: str) -> None:
    """Every benchmark, or those named: each prints its ratios with machine, versions and command."""
    folder = ROOT / "tests" / "benchmarks"
    for script in [folder / f"{name}.py" for name in arguments] or sorted(folder.glob("[!_]*.py")):
        say(script.stem)
        run(python_of(ENVIRONMENT), script)


def say(what: str) -> None:
    print(f"== {what}", flush=True)


TASKS = {"test": test, "lint": lint, "types": types, "oldest": oldest, "perturb": perturb, "demo": demo, "bench": bench}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    task, arguments = parser.parse_known_args()
    try:
        setup(needs_host(task.task, arguments))
        TASKS[task.task](*arguments)
    except Failure as failure:
        print(f"dev.py: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The peers' own environment, made when it is missing, and commands in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.pages import ROOT

ENVIRONMENT = ROOT / "build" / "peers"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PEERS = {
    "mnn": ("mnn", "numpy"),
    "openvino": ("openvino", "nncf", "numpy"),
    "executorch": ("executorch", "torchao", "torch", "numpy"),
}


def python_of(runtime: str) -> str:
    return str(ENVIRONMENT / "bin" / "python") if runtime in PEERS else sys.executable


def command(script: str, runtime: str, *args: str) -> list[str]:
    """A script of this folder, run by the Python that has ``runtime``.  -P: its neighbours are not modules there."""
    return [python_of(runtime), "-P", str(Path(__file__).with_name(script)), *args]


def set_up() -> dict[str, str]:
    """Install what is not installed yet; why not, by peer, where that fails."""
    if not Path(python_of("mnn")).exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    failed = {}
    for peer, packages in PEERS.items():
        pip = [python_of(peer), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        reason = failure([*pip, "install", "--only-binary", peer, "--constraint", str(REQUIREMENTS), *packages])
        if reason:
            failed[peer] = f"cannot be installed: {reason}"
    return failed


def versions() -> dict[str, str]:
    code = "import importlib.metadata as m, json; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
    found = json.loads(subprocess.run([python_of("mnn"), "-c", code], check=True, capture_output=True, text=True).stdout)
    return {name: found[name] for packages in PEERS.values() for name in packages if name in found}


def failure(command: list[str]) -> str | None:
    """Run a command; why it failed, or None."""
    quiet = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=quiet)
    return None if done.returncode == 0 else last_line(done.stdout + done.stderr, done.returncode)


def last_line(said: str, code: int) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:160] if lines else f"ended with code {code} and said nothing"

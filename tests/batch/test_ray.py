"""mfs batch on a real Ray cluster of one machine: the same bundles, and an actor or the run may be killed in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")

from testing.batches import hashes, wait_for_bundles

pytestmark = pytest.mark.long

PEOPLE = 120
RAY = "from ray.scripts.scripts import main; main()"
ACTOR = b"ray::Actor"


@pytest.fixture(scope="module")
def head() -> Iterator[int]:
    """Starts the cluster; its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets are in it, whose paths must be short
    command = ["start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--port", str(port), "--num-cpus", "2"]
    command += ["--include-dashboard", "false", "--disable-usage-stats", "--object-store-memory", "80000000", "--temp-dir", place]
    process = subprocess.Popen([sys.executable, "-c", RAY, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if "runtime started" in line:
            break
    else:
        pytest.fail("the cluster did not start")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        yield process.pid
    process.terminate()
    process.communicate(timeout=60)
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def begin(start, small_kit, people, tmp_path) -> Callable:
    def go(*args: object):
        return start("batch", people, "--kit", small_kit, "--out", tmp_path / "out", "--backends", "onnx", "--json", *args)

    return go


def counts(process: subprocess.Popen[str]) -> dict[str, int]:
    printed, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    found: dict[str, int] = json.loads(printed)["counts"]
    return found


def actors(head: int) -> list[int]:
    """Processes of the cluster that are at work on a chunk."""
    found, look = [], [head]
    while look:
        pid = look.pop()
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            look += [int(child) for task in tasks for child in (task / "children").read_text().split()]
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(ACTOR):
                found.append(pid)
        except OSError:  # gone meanwhile
            continue
    return found


def test_an_actor_that_is_killed_costs_nothing_and_a_second_run_keeps_all(head, begin, expected_hashes, tmp_path):
    process = begin("--engine", "ray")
    wait_for_bundles(process, tmp_path / "out", 10)
    os.kill(actors(head)[0], signal.SIGKILL)
    assert counts(process) == {"done": PEOPLE}
    assert hashes(tmp_path / "out") == expected_hashes
    assert counts(begin("--engine", "ray")) == {"unchanged": PEOPLE}
    assert counts(begin()) == {"unchanged": PEOPLE}  # whatever the engine


def test_a_killed_run_takes_its_actors_along_and_the_next_one_does_the_rest(head, begin, expected_hashes, tmp_path):
    process = begin("--engine", "ray")
    wait_for_bundles(process, tmp_path / "out", 70)
    process.kill()
    process.wait()
    there = hashes(tmp_path / "out")
    assert there.items() <= expected_hashes.items()
    found = counts(begin("--engine", "ray"))  # waits for what is still at work
    assert sum(found.values()) == PEOPLE
    assert found["unchanged"] >= 30  # a chunk's results reach the journal when it is done
    assert hashes(tmp_path / "out") == expected_hashes


def test_one_bad_person_costs_nobody_else(head, start, small_kit, people, tmp_path):
    names = sorted(people.iterdir())[:3]
    (tmp_path / "people.csv").write_text("id,identity\n" + "".join(f"{p.stem},{p}\n" for p in names) + "bad,people.csv\n")
    args = ("--kit", small_kit, "--out", "out", "--backends", "onnx", "--engine", "ray", "--workers", "9", "--json")
    process = start("batch", "people.csv", *args, cwd=tmp_path)  # more workers than processors, and paths of this folder
    printed, err = process.communicate(timeout=240)
    assert process.returncode == 12, err
    assert json.loads(printed)["counts"] == {"done": 3, "failed": 1}
    assert len(hashes(tmp_path / "out")) == 6


def test_a_wrong_cluster_address_is_refused_before_anything_is_written(begin, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    printed, _ = (process := begin("--engine", "ray")).communicate(timeout=240)
    assert process.returncode == 9
    assert "no Ray cluster" in json.loads(printed)["error"]["message"]
    assert not (tmp_path / "out").exists()

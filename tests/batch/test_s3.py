"""mfs batch into a real S3 server: workers, the run, the network and the store are cut in the middle, and no half bundle is seen.

A bundle there is what has a manifest; every test looks at the store itself, past the wire and past our own code.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytest.importorskip("flask_cors")

from mfs_deploy.batch.results import RESULTS
from mfs_deploy.bundle import manifest
from testing.batches import WORKER
from testing.processes import children
from testing.s3_server import BUCKET, Server, Wire

pytestmark = pytest.mark.long

PEOPLE = 12
IDS = {f"p{i:03}" for i in range(PEOPLE)}
URL = f"s3://{BUCKET}/many"


@pytest.fixture(scope="module", autouse=True)
def account() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")  # the client's own patience; s3fs adds some
        yield


@pytest.fixture(scope="module")
def server(account) -> Iterator[Server]:
    made = Server()
    yield made
    made.kill()


@pytest.fixture
def wire(server, monkeypatch) -> Iterator[Wire]:
    """To an empty bucket."""
    for key in server.objects():
        server.client.delete_object(Bucket=BUCKET, Key=key)
    made = Wire(server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.port}")
    yield made
    made.cut()


@pytest.fixture
def begin(start, small_kit, people) -> Callable:
    def go(*args: object, **kwargs):
        common = ("--kit", small_kit, "--out", URL, "--backends", "onnx", "--workers", "2")
        return start("batch", people, *common, *args, **kwargs)

    return go


def visible(server: Server) -> set[str]:
    return {key.split("/")[1] for key in server.objects() if key.endswith(f"/{manifest.NAME}")}


def wait_for(server: Server, process, count: int) -> None:
    while len(visible(server)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def hashes(server: Server) -> dict[str, str]:
    """Of the files of the visible bundles, each of which must be whole."""
    found = {}
    keys = server.objects().keys()
    for who in visible(server):
        place = f"many/{who}/"
        said = json.loads(server.read(f"{place}{manifest.NAME}"))["files"]
        assert {key.removeprefix(place) for key in keys if key.startswith(place)} == {*said, manifest.NAME}
        for name in (*said, manifest.NAME):
            found[f"{who}/{name}"] = hashlib.sha256(server.read(f"{place}{name}")).hexdigest()
            assert name == manifest.NAME or found[f"{who}/{name}"] == said[name]["sha256"]
    return found


def finish(begin, server: Server, expected_hashes: dict[str, str]) -> dict[str, int]:
    """Another run; what is there then is what a folder would hold.  Returns its counts."""
    printed, err = (process := begin("--json")).communicate(timeout=240)
    assert process.returncode == 0, err
    assert hashes(server) == expected_hashes
    results = list(csv.DictReader(io.StringIO(server.read(f"many/{RESULTS}").decode())))
    assert {row["id"] for row in results} == IDS
    counts: dict[str, int] = json.loads(printed)["counts"]
    assert sum(counts.values()) == PEOPLE
    return counts


def test_bundles_are_those_of_a_folder_and_are_kept_or_made_again(begin, server, wire, expected_hashes):
    assert finish(begin, server, expected_hashes) == {"done": PEOPLE}
    before = server.objects()
    artifact = next(key for key in before if key.startswith("many/p001/") and not key.endswith(".json"))
    content = bytearray(server.read(artifact))
    content[len(content) // 2] ^= 1
    server.client.put_object(Bucket=BUCKET, Key=artifact, Body=bytes(content))
    server.client.delete_object(Bucket=BUCKET, Key=f"many/p002/{manifest.NAME}")
    server.client.delete_object(Bucket=BUCKET, Key="many/.records/p003.json")
    assert finish(begin, server, expected_hashes) == {"done": 3, "unchanged": PEOPLE - 3}
    assert finish(begin, server, expected_hashes) == {"unchanged": PEOPLE}
    after = server.objects()
    bundles = {key: tag for key, tag in before.items() if "/p" in key and not key.startswith("many/.")}
    assert {key: after[key] for key in bundles} == bundles


def test_other_targets_replace_the_artifacts_and_what_is_not_ours_is_left(begin, server, wire, people, expected_hashes):
    server.client.put_object(Bucket=BUCKET, Key="many/p005/thesis.tex", Body=b"x")
    process = begin()
    printed, err = process.communicate(timeout=240)
    assert process.returncode == 12, err
    assert "thesis.tex" in printed
    process = begin("--backends", "ncnn")
    process.communicate(timeout=240)
    assert process.returncode == 12  # one has something else in the way, still
    assert {name.split("/")[1] for name in hashes(server)} == {"swap.param", "swap.bin", manifest.NAME}
    assert server.read("many/p005/thesis.tex") == b"x"
    assert visible(server) == IDS - {"p005"}


def test_a_killed_worker_costs_nothing(begin, server, wire, expected_hashes):
    process = begin()
    wait_for(server, process, 2)
    os.kill(children(process.pid, WORKER)[0], signal.SIGKILL)
    printed, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert f"{PEOPLE} done" in printed
    assert hashes(server) == expected_hashes


def test_a_run_killed_with_its_workers_leaves_whole_bundles_that_the_next_one_keeps(begin, server, wire, expected_hashes):
    process = begin()
    wait_for(server, process, 3)
    for pid in (process.pid, *children(process.pid, WORKER)):  # as when the machine goes; workers alone would have another second
        os.kill(pid, signal.SIGKILL)
    process.wait()
    there = hashes(server)
    assert 3 <= len(visible(server)) < PEOPLE
    assert there.items() <= expected_hashes.items()
    counts = finish(begin, server, expected_hashes)
    assert counts["unchanged"] >= 1  # both workers may have been ended between a manifest and its record


def test_a_cut_network_ends_the_run_and_the_next_one_does_the_rest(begin, server, wire, expected_hashes):
    process = begin()
    wait_for(server, process, 3)
    wire.cut()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 9, err
    assert "the store failed" in err
    there = hashes(server)
    assert 3 <= len(visible(server)) < PEOPLE
    assert there.items() <= expected_hashes.items()
    wire.mend()
    assert finish(begin, server, expected_hashes)["unchanged"] >= 1


def test_a_store_that_lost_everything_is_filled_again(begin, server, wire, expected_hashes):
    process = begin()
    wait_for(server, process, 3)
    server.kill()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 9, err
    server.start()
    assert server.objects() == {}
    assert finish(begin, server, expected_hashes) == {"done": PEOPLE}


def test_a_full_disk_beside_the_store_ends_the_run_without_half_a_bundle(begin, server, wire, expected_hashes):
    process = begin(largest_file=100_000)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 9, err
    assert hashes(server) == {}


def test_a_bucket_that_is_not_there_is_told(begin, server, wire):
    process = begin("--out", "s3://nowhere/many", "--json")
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 9
    assert "s3://nowhere/many" in json.loads(printed)["error"]["message"]

"""mfs batch killed, interrupted or out of space: no half bundle, no worker left, and a second run ends it with the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfs_deploy.batch import run_lock
from mfs_deploy.batch.results import RESULTS
from mfs_deploy.batch.stores import JOURNAL
from mfs_deploy.bundle import publish as bundle
from testing.batches import WORKER, bundles, hashes, wait_for_bundles
from testing.processes import children, wait_until_gone

PEOPLE = 240  # so many that none of the runs that are killed after 50 is done by then, its workers finishing what they have


@pytest.fixture
def out(tmp_path) -> Iterator[Path]:
    yield tmp_path / "out"
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


@pytest.fixture
def begin(start, small_kit, people, out):
    def go(**kwargs) -> subprocess.Popen[str]:
        return start("batch", people, "--kit", small_kit, "--out", out, "--backends", "onnx", "--workers", "2", **kwargs)

    return go


def litter(out: Path) -> list[str]:
    return [p.name for p in out.iterdir() if bundle.UNFINISHED.fullmatch(p.name)]


def finish(begin, out: Path, expected_hashes: dict[str, str], *, some_unchanged: bool = True) -> None:
    """A second run does the rest, with the bytes of a run that nothing happened to."""
    process = begin()
    printed, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert ("unchanged" in printed) == some_unchanged
    assert hashes(out) == expected_hashes
    assert litter(out) == []
    assert len((out / RESULTS).read_text().splitlines()) == 1 + PEOPLE


def test_a_killed_worker_costs_nothing(begin, out, expected_hashes):
    process = begin()
    wait_for_bundles(process, out, 10)
    os.kill(children(process.pid, WORKER)[0], signal.SIGKILL)
    printed, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert f"{PEOPLE} done" in printed
    assert hashes(out) == expected_hashes
    finish(begin, out, expected_hashes)


def test_a_killed_run_leaves_no_half_bundle_and_no_worker(begin, out, expected_hashes):
    process = begin()
    wait_for_bundles(process, out, 50)
    workers = children(process.pid, WORKER)
    assert workers
    process.kill()
    process.wait()
    assert hashes(out).items() <= expected_hashes.items()
    wait_until_gone(workers, WORKER)
    assert hashes(out).items() <= expected_hashes.items()
    assert len(bundles(out)) < PEOPLE
    finish(begin, out, expected_hashes, some_unchanged=(out / JOURNAL).stat().st_size > 0)


def test_a_run_right_after_one_that_was_killed_waits_for_its_workers(begin, out, expected_hashes):
    process = begin()
    wait_for_bundles(process, out, 50)
    process.kill()
    process.wait()
    finish(begin, out, expected_hashes, some_unchanged=(out / JOURNAL).stat().st_size > 0)


@pytest.mark.parametrize("to_all", [False, True], ids=["to the run", "to the group, as Ctrl-C"])
def test_an_interruption_stops_cleanly(begin, out, expected_hashes, to_all):
    process = begin(start_new_session=True)
    wait_for_bundles(process, out, 10)
    workers = children(process.pid, WORKER)
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    wait_until_gone(workers, WORKER)
    assert hashes(out).items() <= expected_hashes.items()
    assert litter(out) == []
    finish(begin, out, expected_hashes, some_unchanged=(out / JOURNAL).stat().st_size > 0)


def test_files_that_cannot_be_written_end_the_run_without_half_a_bundle(begin, out, expected_hashes):
    """A limit on the size of files stands for the full disk."""
    process = begin(largest_file=500_000)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 9, err
    assert "Traceback" not in err
    assert bundles(out) == []
    assert litter(out) == []
    finish(begin, out, expected_hashes, some_unchanged=False)


@pytest.fixture
def tiny(tmp_path) -> Iterator[Path]:
    """A file system of 40 MB, mounted where ``out`` is to be."""
    place = tmp_path / "out"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_ends_the_run_and_with_room_a_second_one_does_the_rest(tiny, begin, out, expected_hashes):
    process = begin()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 9, err
    assert "No space left" in err
    assert "Traceback" not in err
    assert 0 < len(bundles(out)) < PEOPLE
    assert hashes(out).items() <= expected_hashes.items()
    assert litter(out) == []
    subprocess.run(["mount", "-o", "remount,size=400m", str(tiny)], check=True)
    finish(begin, out, expected_hashes, some_unchanged=(out / JOURNAL).stat().st_size > 0)


def test_two_runs_in_one_folder_are_refused(mfs, small_kit, people, out):
    with run_lock.hold(out):
        ran = mfs("batch", people, "--kit", small_kit, "--out", out, "--backends", "onnx", "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (9, "output")
    assert "another mfs batch" in ran.json["error"]["message"]
    assert bundles(out) == []


def test_what_killed_runs_left_is_cleared_away_and_nothing_else(out, tmp_path):
    for name in (
        ".p1.abcd_123.partial",
        ".p2.abcd_123.old",
        ".p3.abcd_123.old",
        "p3",
        ".mine.partial",
        ".a.abcd_1234.partial",
        "p4",
    ):
        (out / name).mkdir(parents=True)
        (out / name / "file").write_text(name)
    (out / ".p5.abcd_123.partial").write_text("a file of the user's")
    (out / ".p6.abcd_123.partial").symlink_to(tmp_path)
    with bundle.staging(out / "p7") as at_work:
        (at_work / "file").write_text("x")
        with run_lock.hold(out):
            left = {p.name for p in out.iterdir()}
        assert at_work.name in left
    assert left - {at_work.name, run_lock.RUN, run_lock.WORKERS} == {
        *("p2", "p3", "p4", ".mine.partial", ".a.abcd_1234.partial", ".p5.abcd_123.partial", ".p6.abcd_123.partial")
    }
    assert (out / "p2" / "file").read_text() == ".p2.abcd_123.old"  # was about to be replaced
    assert (out / "p3" / "file").read_text() == "p3"

"""The comparison with peers: a loser must not look like a winner, and a peer that fails must not take the others with it."""

from __future__ import annotations

import numpy as np

from benchmarks.peers import tables, timing
from benchmarks.peers.contestant import Contestant


def entry(maker, title, precision, *, one, two, psnr=140.0):
    times = {"p10_ms": 1.0, "p90_ms": 99.0, "load_ms": 2.0, "cpu_ms": 5.0}
    return {
        "maker": maker,
        "title": title,
        "precision": precision,
        "runtime": "x",
        "bytes": 2_000_000,
        "psnr_db": psnr,
        "max_error": 1e-6,
        "threads_1": {"median_ms": one, **times},
        "threads_2": {"median_ms": two, **times},
    }


def results(*contestants):
    return {"arm64_cpu": "cortex-a76", "contestants": list(contestants)}


def missing(title, reason):
    return {"maker": "peer", "title": title, "precision": "fp32", "runtime": "y", "error": reason}


def cells(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_fastest_is_named_by_precision_and_thread_count():
    found = results(
        entry("ours", "ONNX", "fp32", one=15.0, two=9.0),
        entry("ours", "NCNN", "fp32", one=14.0, two=10.0),
        entry("ours", "NCNN", "fp16", one=5.0, two=4.0, psnr=70.0),
        entry("peer", "MNN", "fp32", one=12.0, two=8.0),
        entry("rewritten", "MNN", "fp32", one=1.0, two=1.0),
    )
    text = tables.fastest(found)
    assert cells(text, "ours")[1:] == ["14.0 ms (NCNN fp32)", "9.0 ms (ONNX fp32)", "5.0 ms (NCNN fp16)", "4.0 ms (NCNN fp16)"]
    assert cells(text, "MNN")[1:] == ["12.0 ms (fp32)", "8.0 ms (fp32)"] * 2


def test_a_wrong_float32_file_is_not_the_fastest_exact_one():
    text = tables.fastest(results(entry("ours", "ONNX", "fp32", one=1.0, two=1.0, psnr=30.0)))
    assert cells(text, "ours")[1:3] == ["-", "-"]


def test_a_peer_that_did_not_run_stays_in_both_tables():
    found = results(entry("ours", "ONNX", "fp32", one=15.0, two=9.0), missing("OpenVINO", "cannot be installed: no | wheel"))
    assert cells(tables.fastest(found), "OpenVINO")[1:] == ["did not run"] * 4
    row = next(line for line in tables.table(found).splitlines() if "OpenVINO" in line)
    assert "cannot be installed: no / wheel" in row
    assert row.count("|") == tables.table(found).splitlines()[0].count("|")


def test_times_of_a_busy_machine_are_marked():
    assert tables.busy(results(entry("ours", "ONNX", "fp32", one=5.1, two=3.0))) == ""
    assert "took 3.0 times" in tables.busy(results(entry("ours", "ONNX", "fp32", one=15.0, two=9.0)))


def test_the_picture_is_the_same_for_the_same_results(tmp_path):
    found = results(entry("ours", "ONNX", "fp32", one=15.0, two=9.0), missing("MNN", "no"))
    for name in ("a.svg", "b.svg"):
        tables.draw(found, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_contestant_that_dies_says_why(tmp_path):
    np.save(tmp_path / "target.npy", np.zeros((1, 3, 32, 32), np.float32))
    runner = timing.Runner(Contestant("peer", "ONNX", "fp32", "onnx", "nothing.onnx"), tmp_path, 1)
    try:
        runner.ask(1)
        runner.ask(1)  # a second round asks nothing of the dead
        assert "NO_SUCHFILE" in runner.error
        assert str(tmp_path) not in runner.error
        assert runner.rounds == []
    finally:
        runner.end()

"""What the emulated phone's verbs print goes onto a page: layers, instructions, parity there and who agrees with whom."""

from __future__ import annotations

import json

import pytest

from mfs_deploy import cli

pytestmark = pytest.mark.long


def test_a_page_holds_what_was_counted_and_compared_on_a_phones_processor(environment, tmp_path, capfd):
    bundle, out = tmp_path / "bundle", tmp_path / "report.html"
    export = ["export", "--checkpoint", "demo", "--source", "demo", "--backends", "ncnn", "--quiet", "--full-conversion"]
    assert cli.main([*export, "--out", str(bundle)]) == 0
    for name, verb in (("parity", ["parity"]), ("arm64", ["bench", "--layers"])):
        capfd.readouterr()
        assert cli.main([*verb, str(bundle), "--on", "arm64", "--json", "--quiet"]) == 0
        (tmp_path / f"{name}.json").write_text(capfd.readouterr().out)
    assert cli.main(["report", str(bundle), str(tmp_path / "parity.json"), str(tmp_path / "arm64.json"), "--out", str(out)]) == 0
    page = out.read_text("utf-8")
    counted = json.loads((tmp_path / "arm64.json").read_text())["artifacts"]["ncnn"]
    assert f"{counted['instructions']['total'] / 1e6:,.2f} M" in page
    for layer in counted["layers"]:
        assert f'<th scope="row">{layer}</th>' in page
    assert "mfs parity on arm64 cortex-a76" in page
    assert "NCNN fp16: the 15 largest of" in page

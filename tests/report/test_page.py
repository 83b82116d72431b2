"""mfs report on a real bundle and real results: what stands on the page, that it needs nothing else, and what it refuses."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mfs_deploy.bundle import manifest

VOID = {"meta", "img", "br"}
HOSTILE = '</title><script>alert(1)</script><img src="http://example.com/x" onerror=alert(1)>\'"&'


class Page(HTMLParser):
    """A page taken apart; every element that is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def ids(self) -> set[str]:
        return {attrs["id"] for attrs in self.all("section") if "id" in attrs}


@pytest.fixture(scope="module")
def results(made, tmp_path_factory):
    """What the two verbs print for ``made``, as files: parity.json and bench.json."""
    import contextlib

    from mfs_deploy import cli

    folder = tmp_path_factory.mktemp("results")
    for name, verb in (("parity.json", "parity"), ("bench.json", "bench")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert cli.main([verb, str(made), "--json", "--quiet"]) == 0
        (folder / name).write_text(printed.getvalue(), "utf-8")
    return folder


@pytest.fixture
def counted(made, tmp_path):
    """In the form of ``mfs bench --on arm64 --layers --json`` (``tests/devices/arm64`` puts a real one on a page)."""
    counts = {"total": 1000, "fma32": 400, "load": 300, "i8mm": 20, "sve": 1}
    said = manifest.read(made)
    whole = {
        "schema": 1,
        "architecture": said["architecture"],
        "size": 224,
        "weights_sha256": said["weights"]["sha256"],
        "machine": {"processor": "a processor", "cores": 2, "system": "Linux x86_64"},
        "versions": {"numpy": "1"},
        "cpu": "cortex-a76",
        "multiply_adds": 296_000_000,
        "artifacts": {
            "onnx": {
                "recipe": "fp32",
                "instructions": {name: value * 1_000_000 for name, value in counts.items()},
                "bound": 74_000_000,
                "layers": {f"layer_{i}": {"total": i * 1_000_000, "fma32": i * 400_000} for i in range(40)},
            }
        },
    }
    path = tmp_path / "arm64.json"
    path.write_text(json.dumps(whole))
    return path


@pytest.fixture
def on_phone(made, tmp_path):
    """In the form of ``mfs bench --on android --json`` (``tests/devices`` makes the real one)."""
    said = manifest.read(made)
    times = dict.fromkeys(("p50", "p90", "p99", "min", "max", "mean"), 7.25)
    whole = {
        "schema": 1,
        **manifest.network(said),
        **{
            "phone": "Google Pixel 8, Android 14",
            "by": "app",
            "threads": 4,
            "runs": 200,
            "refused": {"tflite": "tflite: no library"},
        },
        "machine": {"processor": "Google Pixel 8 (husky)", "cores": 9, "system": "Android 14 (API 34) arm64-v8a"},
        "artifacts": {
            "ncnn": {
                **{"recipe": "fp16", "runtime": "ncnn", "precision": "float16", "open_ms": 31.0},
                "frame": {"name": "reference", "width": 512, "height": 512},
                "latency_ms": dict.fromkeys(("detect", "align", "network", "paste", "total"), times),
                "sustained": {
                    **{"seconds": 300.2, "frames": 9000, "fps": 29.98, "fps_by_second": times},
                    "samples": [{"seconds": 0.0, "heat": {"battery": -3.5}, "khz": [1800000]}],
                },
            }
        },
    }
    path = tmp_path / "pixel.json"
    path.write_text(json.dumps(whole))
    return path


def changed(path, change):
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    return path


def test_a_page_joins_a_bundle_and_its_results(mfs, made, results, counted, tmp_path):
    out = tmp_path / "report.html"
    ran = mfs("report", made, results / "parity.json", results / "bench.json", counted, "--out", out, "--json")
    assert (ran.code, ran.json) == (0, {"out": str(out), "problems": []})
    page = Page(out.read_text("utf-8"))
    assert page.ids() == {"pictures", "parity", "latency", "instructions", "manifest"}
    bench = json.loads((results / "bench.json").read_text())["artifacts"]["onnx"]
    assert f"{bench['median_ms']:.2f} ms" in page.text
    assert "1,000.00 M" in page.text
    assert "layer_39" in page.text
    assert manifest.read(made)["files"]["swap.onnx"]["sha256"] in page.text
    assert "within its recipe's tolerance" in page.text


def test_a_page_shows_the_bundles_own_pictures_and_says_what_they_are(mfs, made, tmp_path):
    out = tmp_path / "report.html"
    assert mfs("report", made, "--out", out).code == 0
    shown = {}
    for attrs in Page(out.read_text("utf-8")).all("img"):
        kind, data = attrs["src"].split(";base64,")
        assert kind in ("data:image/png", "data:image/jpeg")
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            shown[attrs["alt"]] = np.array(picture.convert("RGB"))
            assert (str(picture.width), str(picture.height)) == (attrs["width"], attrs["height"])
    with np.load(made / "reference.npz") as arrays:
        crop = next(picture for alt, picture in shown.items() if "aligned crop" in alt)
        assert (crop == arrays["target_rgb"][0]).all()
        swapped = np.rint(arrays["swapped"][0].transpose(1, 2, 0) * 255)
    (ours,) = (picture for alt, picture in shown.items() if alt == "Face crop as ONNX fp32 swaps it")
    assert np.abs(ours.astype(int) - swapped).max() <= 1
    (error,) = (picture for alt, picture in shown.items() if alt.startswith("Map of ONNX fp32's error"))
    assert len(np.unique(error.reshape(-1, 3), axis=0)) > 10
    (source,) = (picture for alt, picture in shown.items() if alt.startswith("The person"))
    with Image.open(made / "preview.png") as sheet:
        cell = np.array(sheet)[26:250, 150:374]
    assert np.abs(source.astype(int) - cell).mean() < 5  # but for what JPEG loses
    assert all(shown)


def test_a_page_loads_nothing_and_runs_nothing(mfs, made, results, counted, tmp_path):
    out = tmp_path / "report.html"
    assert mfs("report", made, results / "bench.json", counted, "--out", out).code == 0
    text = out.read_text("utf-8")
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "form", "base", "audio", "video", "use", "image"}
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on") or name in ("style", "srcset", "action", "xlink:href")], tag
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("#", "data:image/")), attrs
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert not re.search(r"@import|url\(|expression|@font-face", style)
    (policy,) = (attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    linked = {attrs["href"].removeprefix("#") for attrs in page.all("a")}
    assert linked == page.ids() == {"pictures", "parity", "latency", "instructions", "manifest"}


def test_a_page_shows_what_a_phone_measured_and_what_it_did_not(mfs, on_phone, tmp_path):
    page = tmp_path / "report.html"
    assert mfs("report", on_phone, "--out", page).code == 0
    text = Page(page.read_text("utf-8")).text
    for words in ("Google Pixel 8, Android 14", "7.25 ms", "30.0 for 300 s", "ncnn, float16", "Not run: tflite: no library"):
        assert words in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["artifacts"]["ncnn"]["latency_ms"].pop("paste"), "'paste'"),
        (lambda m: m["artifacts"]["ncnn"]["latency_ms"]["total"].update(p50=-1), "negative"),
        (lambda m: m["artifacts"]["ncnn"]["sustained"].update(fps=None), "is of type NoneType"),
        (lambda m: m["artifacts"]["ncnn"].update(frame="512"), "is no object"),
    ],
)
def test_malformed_results_of_a_phone_are_refused(mfs, on_phone, tmp_path, change, says):
    changed(on_phone, change)
    ran = mfs("report", on_phone, "--out", tmp_path / "report.html")
    assert ran.code == 2, ran
    assert says in ran.err


def test_a_page_of_results_needs_no_bundle(mfs, results, counted, tmp_path):
    out = tmp_path / "report.html"
    assert mfs("report", results / "parity.json", counted, "--out", out).code == 0
    page = Page(out.read_text("utf-8"))
    assert page.ids() == {"parity", "instructions"}
    assert page.all("img") == []


def test_a_bundle_that_was_never_measured_has_a_page_without_pictures(mfs, bundle, tmp_path):
    for name in ("reference.npz", "preview.png"):
        (bundle / name).unlink()
    said = manifest.read(bundle)
    said |= {"reference": {}, "stages": {}, "float16": {}, "files": manifest.list_files(bundle)}
    said["artifacts"]["onnx"]["parity"]["cases"] = []
    manifest.write(bundle, said)
    assert mfs("report", bundle, "--out", tmp_path / "report.html").code == 0
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert page.ids() == {"parity", "manifest"}
    assert "holds no reference tensors" in page.text


def test_a_ratio_to_an_older_run_is_on_the_page(mfs, made, results, tmp_path):
    ran = mfs("bench", made, "--compare", results / "bench.json", "--json", "--quiet")
    (tmp_path / "new.json").write_text(ran.out)
    assert mfs("report", tmp_path / "new.json", "--out", tmp_path / "report.html").code == 0
    one = ran.json["compared"]["onnx"]
    text = Page((tmp_path / "report.html").read_text("utf-8")).text
    assert f"{one['ratio']:.3f} ({one['low']:.3f} to {one['high']:.3f})" in text


def test_an_artifact_that_departs_is_told_on_the_page(mfs, bundle, tmp_path, wrong_weight):
    wrong_weight(bundle)
    ran = mfs("report", bundle, "--out", tmp_path / "report.html", "--json")
    assert ran.code == 0
    text = Page((tmp_path / "report.html").read_text("utf-8")).text
    assert ran.json["problems"]
    for problem in ran.json["problems"]:
        assert problem in text
    assert "within its recipe's tolerance" not in text


def test_an_artifact_that_cannot_be_opened_is_told_on_the_page(mfs, bundle, tmp_path):
    content = (bundle / "swap.onnx").read_bytes()
    (bundle / "swap.onnx").write_bytes(content[: len(content) // 2])
    said = manifest.read(bundle)
    manifest.write(bundle, said | {"files": manifest.list_files(bundle)})
    ran = mfs("report", bundle, "--out", tmp_path / "report.html", "--json")
    assert ran.code == 0
    assert "onnx could not be run" in ran.json["problems"][0]
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert "no picture" in page.text
    assert "within its recipe's tolerance" not in page.text


def test_html_in_a_bundle_or_result_is_shown_as_text(mfs, bundle, results, counted, tmp_path):
    said = manifest.read(bundle)
    said["tool"] = said["artifacts"]["onnx"]["format"] = said["artifacts"]["onnx"]["parity"]["runtime"] = HOSTILE
    said["versions"] = {HOSTILE: HOSTILE}
    said["licences"] = {"code": HOSTILE, "weights": HOSTILE}
    said["stages"] = {HOSTILE: 1.0}
    said["checkpoint"][0]["name"] = HOSTILE
    manifest.write(bundle, said)
    bench = tmp_path / "bench.json"
    shutil.copy(results / "bench.json", bench)
    changed(
        bench, lambda m: (m["machine"].update(processor=HOSTILE), m["artifacts"]["onnx"].update(runtime=HOSTILE, recipe=HOSTILE))
    )
    changed(counted, lambda m: (m.update(cpu=HOSTILE), m["artifacts"]["onnx"]["layers"].update({HOSTILE: {"total": 9**9}})))
    parity = tmp_path / "parity.json"
    shutil.copy(results / "parity.json", parity)
    there = {"runtime": HOSTILE, "cases": json.loads(parity.read_text())["artifacts"]["onnx"]["cases"]}
    agreement = {HOSTILE: {"b": 1.0}, "b": {HOSTILE: None}}
    changed(parity, lambda m: m.update(elsewhere={"machine": HOSTILE, "artifacts": {"onnx": there}}, agreement_db=agreement))
    assert mfs("report", bundle, bench, counted, parity, "--out", tmp_path / "report.html").code == 0
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert page.text.count("alert(1)") >= 15
    assert page.all("script") == []
    assert all(attrs["src"].startswith("data:") for attrs in page.all("img"))
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]


def one_without(key):
    return lambda m: m["artifacts"]["onnx"].pop(key)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read as JSON"),
        ("[]", "holds a list, no results"),
        ('{"people": 3}', "is of no kind that is known: it has 'people'"),
        ("{}", "it has no entries"),
        ('{"error": {"message": "no face"}}', "holds an error and no results: no face"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"cpu": NaN}', "cannot be read as JSON"),
        ('{"cpu": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ('{"cpu": 1e400}', "1e400 is no number that makes sense"),
    ],
)
def test_json_of_another_kind_is_refused_by_name(mfs, tmp_path, text, says):
    (tmp_path / "strange.json").write_text(text)
    ran = mfs("report", tmp_path / "strange.json", "--out", tmp_path / "report.html")
    assert ran.code == 2
    assert "strange.json" in ran.err
    assert says in ran.err
    assert "mfs bench --json" in ran.err or "run that verb again" in ran.err
    assert ran.err.count("\n") == 2
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(schema=2), "schema 2"),
        (lambda m: m["artifacts"].clear(), "artifacts are none"),
        (lambda m: m["artifacts"].update(tensorrt=m["artifacts"]["onnx"]), "tensorrt"),
        (lambda m: m["artifacts"]["onnx"].update(bound="x"), "'onnx'.'bound' is of type str"),
        (one_without("bound"), "'bound'"),
        (lambda m: m["artifacts"]["onnx"]["instructions"].pop("total"), "without a total"),
        (lambda m: m["artifacts"]["onnx"]["layers"].update(x={"load": 3}), "without a total"),
        (lambda m: m["artifacts"]["onnx"]["layers"].update(x=[3]), "is no object"),
        (lambda m: m["artifacts"]["onnx"]["instructions"].update(load=-1), "negative"),
        (lambda m: m["artifacts"]["onnx"]["instructions"].update(load=True), "is of type bool"),
        (lambda m: m["artifacts"].update(onnx=None), "'onnx' is no object"),
        (lambda m: m.update(machine={}), "'cores'"),
        (lambda m: m.pop("weights_sha256"), "'weights_sha256'"),
    ],
)
def test_malformed_results_are_refused(mfs, counted, tmp_path, change, says):
    changed(counted, change)
    ran = mfs("report", counted, "--out", tmp_path / "report.html")
    assert ran.code == 2, ran
    assert says in ran.err
    assert not (tmp_path / "report.html").exists()


def test_results_without_instructions_at_all_still_have_a_page(mfs, counted, tmp_path):
    changed(counted, lambda m: m["artifacts"]["onnx"].update(instructions={"total": 0}, bound=0, layers={}))
    assert mfs("report", counted, "--out", tmp_path / "report.html").code == 0
    Page((tmp_path / "report.html").read_text("utf-8"))


@pytest.mark.parametrize("change", [{"weights_sha256": "0" * 64}, {"size": 256}, {"architecture": "mobilefsgan"}])
def test_results_of_another_network_are_not_joined(mfs, made, results, counted, tmp_path, change):
    changed(counted, lambda m: m.update(change))
    for other in (made, results / "parity.json"):
        ran = mfs("report", other, counted, "--out", tmp_path / "report.html")
        assert ran.code == 2
        assert next(iter(change)) in ran.err
        assert not (tmp_path / "report.html").exists()


def test_a_damaged_bundle_has_no_page(mfs, bundle, tmp_path):
    content = bytearray((bundle / "swap.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "swap.onnx").write_bytes(content)
    assert mfs("report", bundle, "--out", tmp_path / "report.html").code == 8
    assert not (tmp_path / "report.html").exists()


def test_a_preview_of_another_size_is_refused(mfs, bundle, tmp_path):
    Image.new("RGB", (10, 10)).save(bundle / "preview.png")
    said = manifest.read(bundle)
    manifest.write(bundle, said | {"files": manifest.list_files(bundle)})
    ran = mfs("report", bundle, "--out", tmp_path / "report.html")
    assert ran.code == 8
    assert "preview.png" in ran.err


def test_a_page_is_never_half_written(start, results, counted, tmp_path):
    (tmp_path / "report.html").write_text("an earlier page")
    before = {path.name for path in tmp_path.iterdir()}
    ran = start("report", results / "parity.json", counted, "--out", tmp_path / "report.html", largest_file=4096)
    _, err = ran.communicate(timeout=120)
    assert ran.returncode == 9, err
    assert (tmp_path / "report.html").read_text() == "an earlier page"
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_page_replaces_no_input_and_lies_in_no_bundle(mfs, made, bundle, counted, tmp_path):
    for args in (
        [made, "--out", made / "report.html"],
        [counted, "--out", counted],
        [counted, "--out", tmp_path / "report.pdf"],
        [made, bundle, "--out", tmp_path / "report.html"],
        [tmp_path / "nothing.json", "--out", tmp_path / "report.html"],
        ["--out", tmp_path / "report.html"],
    ):
        before = counted.read_text()
        assert mfs("report", *args).code == 2, args
        assert counted.read_text() == before
        assert not (made / "report.html").exists()
        assert not (tmp_path / "report.html").exists()
    assert mfs("report", counted, "--out", tmp_path / "nowhere" / "report.html").code == 9


def test_a_report_without_jinja2_names_the_extra(mfs, counted, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    ran = mfs("report", counted, "--out", tmp_path / "report.html")
    assert ran.code == 5
    assert '".[report]"' in ran.err

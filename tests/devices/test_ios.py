"""mfs bench and mfs parity on an iPhone.  ``fake_xcrun.py`` stands for Apple's devicectl, which runs on Macs only."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from mfs_deploy.devices import ios
from mfs_deploy.devices.phone import OnPhone
from mfs_deploy.errors import DeviceError
from mfs_deploy.evaluate import bench_phone, bundle_parity

NAME = "iPhone 15 Pro, iOS 18.1"


def test_outputs_of_an_iphone_are_held_against_the_gates(mfs, iphone, bundle):
    ran = mfs("parity", bundle, "--on", "ios", "--json")
    assert ran.code == 0, ran.err
    there = ran.json["elsewhere"]
    assert (there["machine"], set(there["artifacts"])) == (NAME, {"coreml"})
    assert there["artifacts"]["coreml"]["cases"][0]["swapped_psnr_db"] > 50
    assert "somebody" not in ran.out  # a phone's name is a person's


def test_times_of_an_iphone_are_shown(mfs, iphone, bundle):
    ran = mfs("bench", bundle, "--on", "ios", "--sustained", 5)
    assert ran.code == 0, ran.err
    assert f"a whole frame on {NAME}, by app" in ran.out
    assert ran.out.splitlines()[2].startswith("coreml")
    assert "(5 s)" in ran.out


def test_bytes_are_judged_as_bytes(iphone, bundle, replay):
    """Pixel buffers round to 1/255: what PyTorch made, rounded, must pass at float32's own gate, and pass as such only."""
    rounding = "import numpy as np; path = dump / 'swapped.npy'; np.save(path, np.round(np.load(path) * 255) / np.float32(255))"
    for pixels in (True, False):
        iphone.tell(program=replay(f"{rounding}; report['pixels'] = {pixels}"))
        if pixels:
            assert bundle_parity.check_bundle(bundle, other=OnPhone(ios.App(None), bundle)).on_other["coreml"]["cases"]
        else:
            with pytest.raises(Exception, match=r"coreml on iPhone 15 Pro"):
                bundle_parity.check_bundle(bundle, other=OnPhone(ios.App(None), bundle))


def test_nothing_of_a_face_stays_on_the_phone_and_no_name_gets_there(iphone, bundle):
    bench_phone.on_phone(bundle, ios.App(None), runs=1, threads=1, sustained=0)
    assert iphone.holds() == []
    assert not any("jane-doe" in word for words in iphone.took for word in words)


def test_a_copy_that_the_app_cannot_delete_is_told_with_its_place(iphone, bundle):
    iphone.tell(forgets=False)
    with pytest.raises(DeviceError, match="could not be deleted") as caught:
        bench_phone.on_phone(bundle, ios.App(None), runs=1, threads=1, sustained=0)
    assert "delete mfs-" in caught.value.hint
    assert "in the Files app" in caught.value.hint


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"connectionProperties": {"pairingState": "unpaired"}}, "does not trust this Mac"),
        ({"connectionProperties": {"tunnelState": "unavailable"}}, "is out of reach"),
        ({"deviceProperties": {"developerModeStatus": "disabled"}}, "has Developer Mode off"),
        ({"connectionProperties": {"pairingState": "unsupported"}}, "is too old for devicectl"),
        ({"hardwareProperties": {"platform": "watchOS"}}, "no phone is connected"),
    ],
)
def test_an_iphone_that_cannot_be_used_is_told(mfs, iphone, bundle, parts, words):
    phone = copy.deepcopy(iphone.told["phones"][0])
    for name, part in parts.items():
        phone[name] |= part
    iphone.tell(phones=[phone])
    ran = mfs("bench", bundle, "--on", "ios")
    assert ran.code == 11
    assert words in ran.err


def test_several_iphones_are_told_by_their_identifiers(mfs, iphone, bundle):
    first = iphone.told["phones"][0]
    second = {**first, "identifier": "OTHER"}
    iphone.tell(phones=[first, second])
    ran = mfs("bench", bundle, "--on", "ios")
    assert ran.code == 11
    assert f"{first['identifier']} (iPhone 15 Pro), OTHER (iPhone 15 Pro)" in ran.err
    assert mfs("bench", bundle, "--on", "ios", "--serial", "OTHER", "--quiet").code == 0
    iphone.tell(phones=[{**first, "hardwareProperties": {**first["hardwareProperties"], "udid": "00008140-2"}}, second])
    assert mfs("bench", bundle, "--on", "ios", "--serial", "00008140-2", "--quiet").code == 0  # as Xcode shows it


def test_a_device_list_in_an_unknown_format_is_refused(iphone):
    iphone.tell(phones=[{"identifier": "X", "properties": {"hardware": {"platform": "iOS"}}}])
    with pytest.raises(DeviceError, match="in an unknown format"):
        ios.App(None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"apps": {"Maps": "com.example.maps"}}, "the app MfsDemo is not on iPhone 15 Pro, iOS 18.1"),
        ({"refuses": "The device is locked."}, "devicectl device copy failed: The device is locked."),
        ({"app": "dies"}, "devicectl device process failed: The application exited unexpectedly."),
        ({"app": "the bundle has no coreml network"}, "coreml: the bundle has no coreml network"),
    ],
)
def test_a_failure_on_the_iphone_is_reported_in_the_words_of_apple_or_the_app(iphone, bundle, changes, words):
    iphone.tell(**changes)
    with pytest.raises(DeviceError) as caught:
        bench_phone.on_phone(bundle, ios.App(None), runs=1, threads=1, sustained=0)
    assert words in caught.value.message


def test_no_xcrun_says_that_a_mac_is_needed(mfs, bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = mfs("parity", bundle, "--on", "ios", "--json")
    assert ran.code == 11
    assert ran.json["error"]["kind"] == "device-tool"
    assert "a Mac with Xcode" in ran.json["error"]["message"]


def test_the_app_has_the_names_that_are_asked_for():
    """Swift is not compiled here; what this package sends to the app stands there in so many words."""
    demo = Path(__file__).parents[2] / "ios_demo"
    text = "".join(path.read_text("utf-8") for path in sorted(demo.rglob("*.swift")))
    for option in ("--bench", "--report", "--warmup", "--runs", "--sustained", "--dump", "--forget"):
        assert f'"{option}"' in text, option
    assert f"{ios.APP}.app" in (demo / "MfsDemo.xcodeproj" / "project.pbxproj").read_text("utf-8")


def test_threads_are_not_promised_where_core_ml_decides(mfs, iphone, bundle):
    ran = mfs("bench", bundle, "--on", "ios", "--threads", 4)
    assert ran.code == 2
    assert "Core ML chooses its threads itself" in ran.err

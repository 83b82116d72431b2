"""From a photo to a bundle that matches PyTorch, in seconds: what to run first after any change."""

from __future__ import annotations

from testing.verbs import LANDMARKS


def test_a_photo_becomes_a_bundle_that_matches_pytorch(mfs, photo, wrong_weight, tmp_path):
    """Aligned, baked, converted, stamped and checked; and a bundle with wrong weights is told from it."""
    bundle = tmp_path / "face01"
    ran = mfs("export", "--checkpoint", "demo", "--source", photo, "--landmarks", LANDMARKS, "--backends", "onnx", "--out", bundle)
    assert ran.code == 0, ran.err
    ran = mfs("parity", bundle, "--json")
    assert ran.code == 0, ran.err
    for case in ran.json["artifacts"]["onnx"]["cases"]:
        assert case["swapped_psnr_db"] > 70, case
    wrong_weight(bundle)
    assert mfs("parity", bundle).code == 7

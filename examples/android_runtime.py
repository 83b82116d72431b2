"""Run a bundle's TFLite file as an app does: from manifest.json alone, with the plain LiteRT runtime, without mfs_deploy.

    python examples/android_runtime.py BUNDLE CROP.png SWAPPED.png

CROP is an aligned face of the size that the manifest says (docs/bundle-format.md: how to align, and how to paste back).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def run(bundle: Path, crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Swapped crop (S, S, 3) uint8 and mask (S, S) float32 in [0, 1] of a crop (S, S, 3) uint8 RGB."""
    from ai_edge_litert.interpreter import Interpreter

    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    artifact = manifest["artifacts"]["tflite"]
    size = manifest["contract"]["size"]
    if crop.shape != (size, size, 3) or crop.dtype != np.uint8:
        raise SystemExit(f"the crop is {crop.dtype} {crop.shape}; this network takes uint8 ({size}, {size}, 3)")
    interpreter = Interpreter(model_path=str(bundle / artifact["files"][0]), num_threads=2)
    interpreter.allocate_tensors()

    (entry,) = artifact["inputs"]  # float32 in [low, high], in the layout that the entry's shape has
    channels_first = entry["shape"][1] == 3
    low, high = manifest["contract"]["input"]["low"], manifest["contract"]["input"]["high"]
    values = low + crop.astype(np.float32) / 255 * (high - low)
    values = values.transpose(2, 0, 1) if channels_first else values
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values[None].astype(entry["dtype"]))
    interpreter.invoke()

    # The manifest lists the outputs in the order in which this file gives them.
    by_name = {}
    for output, detail in zip(artifact["outputs"], interpreter.get_output_details(), strict=True):
        array = interpreter.get_tensor(detail["index"])[0]
        by_name[output["name"]] = array.transpose(1, 2, 0) if output["shape"][1] in (1, 3) else array
    swapped = np.round(np.clip(by_name["swapped"], 0, 1) * 255).astype(np.uint8)
    return swapped, by_name["mask"][..., 0]


def main(bundle: Path, crop: Path, out: Path) -> None:
    swapped, mask = run(bundle, np.asarray(Image.open(crop).convert("RGB")))
    Image.fromarray(swapped).save(out)
    print(f"{out}: the mask covers {float((mask > 0.5).mean()):.0%} of the crop")


if __name__ == "__main__":
    main(*(Path(arg) for arg in sys.argv[1:4]))

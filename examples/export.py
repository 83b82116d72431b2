"""Export one person, read the parity, and swap a crop and a photo: the Python API in one page.

    python examples/export.py [OUT_FOLDER]

The demo person is rendered.  For a real one pass the path of a photo as ``source`` and of the authors' weights as ``checkpoint``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import mfs_deploy as mfs


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    bundle = mfs.export(
        checkpoint="demo",
        source="demo",
        out=folder / "person",
        backends=["onnx"],
        recipe="fp16",
        progress=lambda done, steps, label: print(f"[{done}/{steps}] {label}", file=sys.stderr),
    )
    for name, parity in bundle.parity().items():
        print(f"{name} {parity.recipe}: {parity.psnr_db:.1f} dB to PyTorch, largest error {parity.max_error:.2g}")

    crop = np.asarray(Image.open(bundle.path / "preview.png").convert("RGB").resize((bundle.size, bundle.size)))
    swapped, mask = bundle.run("onnx", crop)
    print(f"swapped {swapped.shape} {swapped.dtype}, mask {mask.shape} from {mask.min():.2f} to {mask.max():.2f}")

    try:
        mfs.export(checkpoint="demo", source="demo", out=folder / "person", backends=["tensorrt"])
    except mfs.UsageError as error:
        print(f"refused: {error.message} ({error.hint})")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "bundles/example"))

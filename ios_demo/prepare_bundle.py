"""Copy a bundle for a phone, with reference.npz unpacked beside it, by which the app checks itself.

    python ios_demo/prepare_bundle.py bundles/face01 face01-ios

The new folder is what goes into the app's Documents.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from mfs_deploy.devices.ios import stage
from mfs_deploy.errors import MfsError


def prepare(bundle: Path, out: Path) -> None:
    """Write ``out``, whole or not at all.

    Raises:
        FileExistsError: there is one already.
        FileNotFoundError: ``bundle`` is none.
        MfsError: the reference tensors cannot be read.
    """
    if not (bundle / "manifest.json").is_file():
        raise FileNotFoundError(f"{bundle} has no manifest.json: it is no bundle")
    if out.exists():
        raise FileExistsError(f"{out} is there already: remove it, or choose another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        copy = Path(scratch) / out.name
        stage(bundle, copy)
        copy.rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    try:
        prepare(given.bundle, given.out)
    except (OSError, MfsError) as exc:
        sys.exit(f"error: {exc}")


if __name__ == "__main__":
    main()

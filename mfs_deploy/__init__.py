"""Bake one person's face-swap network and export it to phones, with proof that it matches PyTorch.

    import mfs_deploy as mfs

    bundle = mfs.export(checkpoint="demo", source="demo", out="bundles/demo", backends=["onnx"])
    bundle.parity()["onnx"].psnr_db

Names in ``__all__`` are the public API; everything else in the package is internal and may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mfs_deploy.api import ArtifactParity, Bundle, embed, export, open_bundle, swap
    from mfs_deploy.errors import (
        BundleError,
        CalibrationError,
        CheckpointError,
        ConversionError,
        DeviceError,
        IncompleteError,
        Interrupted,
        MfsError,
        MissingExtra,
        OutputError,
        ParityError,
        PhotoError,
        UsageError,
    )

__all__ = [
    "ArtifactParity",
    "Bundle",
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "ConversionError",
    "DeviceError",
    "IncompleteError",
    "Interrupted",
    "MfsError",
    "MissingExtra",
    "OutputError",
    "ParityError",
    "PhotoError",
    "UsageError",
    "__version__",
    "embed",
    "export",
    "open_bundle",
    "swap",
]


def __getattr__(name: str) -> object:
    """Imported when first asked for, so that ``import mfs_deploy`` costs nothing (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mfs_deploy import api, errors

    found: object = getattr(api if hasattr(api, name) else errors, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

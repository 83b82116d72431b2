"""An identity kept in a file: embedding and feature map as safetensors, so that its owner can bake again without the photo.

This is biometric data: the file is readable by its owner only.  No torch here, and no clock, path or name inside.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfs_deploy import files
from mfs_deploy.architectures import INTERFACES
from mfs_deploy.checkpoint.byte_source import shown
from mfs_deploy.errors import CheckpointError, OutputError

FORMAT = "mfs-identity"
VERSION = "1"
NORM_TOLERANCE = 1e-3
MAX_BYTES = 1 << 20  # a sound one has 102,400 bytes of numbers and a short header
HEX_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class IdentityArrays:
    """``embedding`` (1, 512) of length 1, ``feature_map`` (1, 512, 7, 7) where the architecture has one, float32.

    ``encoder_sha256`` is of the encoder they came from.
    """

    embedding: NDArray[np.float32]
    feature_map: NDArray[np.float32] | None
    encoder_sha256: str
    arch: str = "mobilefaceswap"


def save(
    path: Path,
    embedding: NDArray[np.float32],
    feature_map: NDArray[np.float32] | None,
    encoder_sha256: str,
    arch: str = "mobilefaceswap",
) -> None:
    """Write an identity file, whole or not at all, readable by its owner alone.  The same arrays give the same bytes.

    Raises:
        CheckpointError: kind identity, if the arrays are not an identity.
        OutputError: the file cannot be written.
    """
    from safetensors.numpy import save as serialize

    arrays = {"embedding": embedding} | ({} if feature_map is None else {"feature_map": feature_map})
    metadata = {"format": FORMAT, "version": VERSION, "arch": arch, "encoder_sha256": encoder_sha256}
    _check(path.name, arrays, metadata)
    data = _sorted_header(serialize({key: np.ascontiguousarray(a) for key, a in arrays.items()}, metadata))
    try:
        with files.replacing(path, private=True) as temporary:
            temporary.write_bytes(data)
    except OSError as exc:
        raise OutputError(f"{shown(path.name)}: cannot be written: {exc.strerror or exc}", hint="choose another folder") from exc


def load(path: Path, arch: str | None = None) -> IdentityArrays:
    """Read and check; it must be for ``arch``, where that is given.

    Raises:
        CheckpointError: kind identity, saying what the file is instead; kind checkpoint-missing.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise CheckpointError(f"{shown(path.name)}: no such file", hint="check the path", kind="checkpoint-missing")
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise _not_one(path.name, "a folder or device" if not path.is_file() else f"a file of {path.stat().st_size:,} bytes")
    try:
        with safe_open(path, framework="np") as f:
            metadata = f.metadata() or {}
            dtypes = {key: f.get_slice(key).get_dtype() for key in f.keys()}  # noqa: SIM118 (not a dict)
            if metadata.get("format") != FORMAT:
                raise _not_one(path.name, f"safetensors of {len(dtypes)} arrays without the mark of an identity")
            if set(dtypes.values()) - {"F32"}:
                raise _not_one(path.name, f"it holds {', '.join(sorted(set(dtypes.values())))}; expected float32")
            arrays = {key: np.array(f.get_tensor(key)) for key in dtypes}
    except SafetensorError as exc:
        raise _not_one(path.name, f"no safetensors file ({shown(str(exc))})") from exc
    except OSError as exc:
        raise _not_one(path.name, f"it cannot be read: {exc.strerror or exc}") from exc
    _check(path.name, arrays, metadata)
    found = metadata["arch"]
    if arch is not None and found != arch:
        raise _not_one(path.name, f"it is for {found}, not for {arch}")
    return IdentityArrays(arrays["embedding"], arrays.get("feature_map"), metadata["encoder_sha256"], found)


def _check(name: str, arrays: dict[str, NDArray[np.float32]], metadata: dict[str, str]) -> None:
    if metadata.get("version") != VERSION or metadata.get("arch") not in INTERFACES:
        found = f"version {shown(str(metadata.get('version')))} for {shown(str(metadata.get('arch')))}"
        raise _not_one(name, f"{found}; read is version {VERSION} for {' or '.join(INTERFACES)}")
    if not HEX_SHA256.fullmatch(metadata.get("encoder_sha256", "")):
        raise _not_one(name, "the encoder's SHA-256 is not 64 hexadecimal digits")
    shapes = {key: array.shape for key, array in arrays.items()}
    expected = dict(INTERFACES[metadata["arch"]].identity)
    if shapes != expected:
        raise _not_one(name, f"it holds {shown(str(shapes))}; expected {expected}")
    for key, array in arrays.items():
        if array.dtype != np.float32:
            raise _not_one(name, f"{key} is {array.dtype}; expected float32")
        if not np.isfinite(array).all():
            raise _not_one(name, f"{key} holds NaN or infinite values")
    length = float(np.linalg.norm(arrays["embedding"].astype(np.float64)))
    if abs(length - 1) > NORM_TOLERANCE:
        raise _not_one(name, f"the embedding's length is {length:.4f}; expected 1")


def _not_one(name: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{shown(name)}: not an identity file: {what}", hint="make one from a photo, with this version", kind="identity"
    )


def _sorted_header(data: bytes) -> bytes:
    """Sort the header: safetensors writes metadata in random order (https://github.com/safetensors/safetensors/issues/584).

    Format: header length as 8 bytes little-endian, JSON header padded with spaces to a multiple of 8, then the arrays.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]

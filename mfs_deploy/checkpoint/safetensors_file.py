"""``.safetensors``: read by the format's own library, which checks the header against the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.checkpoint.byte_source import shown, unreadable
from mfs_deploy.checkpoint.stored_array import StoredArray

DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@contextmanager
def opened(path: Path, name: str) -> Iterator[dict[str, StoredArray]]:
    """Arrays by their key in the file, readable while the context lasts.

    Raises:
        CheckpointError: checkpoint-unreadable.
    """
    from safetensors import SafetensorError, safe_open

    try:
        f = safe_open(path, framework="pt")
    except SafetensorError as exc:
        raise unreadable(name, f"not a safetensors file, or a damaged one: {shown(str(exc))}") from exc
    with f:
        yield {key: _stored(f, key) for key in f.keys()}  # type: ignore[no-untyped-call]  # noqa: SIM118 (not a dict)


def _stored(f: Any, key: str) -> StoredArray:
    described = f.get_slice(key)
    dtype = described.get_dtype()

    def values() -> NDArray[np.float32]:
        # The library maps the file; a copy does not change when the file does.
        return np.array(f.get_tensor(key).float().numpy())

    return StoredArray(DTYPES.get(dtype, dtype), tuple(described.get_shape()), values)

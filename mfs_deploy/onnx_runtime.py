"""ONNX Runtime, without its telemetry."""

from __future__ import annotations

import os
from typing import Any


def load() -> Any:
    """Import ONNX Runtime.  Every use of it starts here.

    Its wheels carry usage telemetry, which also writes into the home folder; people's faces are read here.  It looks at this
    variable when it is loaded; a user who sets the variable decides otherwise.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime

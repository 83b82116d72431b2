"""Bake one person's face-swap network and export it to phones, with proof that it matches PyTorch."""

import os

__version__ = "0.1.0"

# ONNX Runtime's wheels carry usage telemetry, which also writes into the home folder.  People's faces are read here: not with us.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

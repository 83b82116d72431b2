"""The backends, by the name used in ``--targets``.  Adding one: a module that satisfies ``base.Backend``, and a line here."""

from __future__ import annotations

from mfs_deploy.backends import coreml, ncnn, onnx, tflite
from mfs_deploy.backends.base import Backend

BACKENDS: dict[str, Backend] = {"onnx": onnx, "tflite": tflite, "ncnn": ncnn, "coreml": coreml}

"""Who takes part in the comparison: a file, and the runtime that runs it."""

from __future__ import annotations

from dataclasses import dataclass

from mfs_deploy.backends.registry import BACKENDS


@dataclass(frozen=True)
class Contestant:
    """A file and what runs it.  ``maker``: ours, converter, peer, or rewritten: a peer that was given our rewritten graph."""

    maker: str
    title: str
    precision: str
    runtime: str  # of ``runner.py``; "" where it cannot run here
    file: str

    @property
    def key(self) -> str:
        return f"{self.maker} {self.title} {self.precision}"

    @property
    def backend(self) -> str:
        return self.runtime.removesuffix("_exact") or "coreml"


CONTESTANTS = (
    *(
        Contestant("ours", BACKENDS[name].TITLE, recipe, runtime, f"ours-{name}-{recipe}/{BACKENDS[name].FILES[0]}")
        for name in ("onnx", "tflite", "ncnn")
        for recipe in ("fp32", "fp16", "w8a8")
        for runtime in ("onnx_exact" if (name, recipe) == ("onnx", "w8a8") else name,)
    ),
    Contestant("ours", "Core ML", "fp16", "", "ours-coreml-fp16/swap.mlpackage"),
    Contestant("converter", "ONNX (PyTorch's exporter)", "fp32", "onnx", "net.onnx"),
    Contestant("converter", "ONNX (PyTorch's exporter)", "w8a8", "onnx", "net-w8a8.onnx"),
    Contestant("converter", "TFLite (litert-torch)", "fp32", "tflite", "net.tflite"),
    Contestant("converter", "TFLite (litert-torch)", "w8a8", "tflite", "net-w8a8.tflite"),
    Contestant("converter", "NCNN (pnnx)", "fp32", "ncnn", "pnnx-fp32/net.ncnn.param"),
    Contestant("converter", "NCNN (pnnx)", "fp16", "ncnn", "pnnx-fp16/net.ncnn.param"),
    Contestant("converter", "Core ML (coremltools)", "fp16", "", "net.mlpackage"),
    Contestant("peer", "MNN", "fp32", "mnn", "mnn-fp32.mnn"),
    Contestant("peer", "MNN", "fp16", "mnn", "mnn-fp16.mnn"),
    Contestant("peer", "MNN", "w8", "mnn", "mnn-w8.mnn"),
    Contestant("peer", "OpenVINO", "fp32", "openvino", "openvino-fp32.xml"),
    Contestant("peer", "OpenVINO", "fp16", "openvino", "openvino-fp16.xml"),
    Contestant("peer", "OpenVINO", "w8a8", "openvino", "openvino-w8a8.xml"),
    Contestant("peer", "ExecuTorch (XNNPACK)", "fp32", "executorch", "executorch-fp32.pte"),
    Contestant("peer", "ExecuTorch (XNNPACK)", "w8a8", "executorch", "executorch-w8a8.pte"),
    Contestant("peer", "PyTorch", "fp32", "torch", "net.pt2"),
    Contestant("rewritten", "MNN", "fp32", "mnn", "mnn-rewritten.mnn"),
    Contestant("rewritten", "OpenVINO", "fp32", "openvino", "openvino-rewritten.xml"),
    Contestant("rewritten", "ExecuTorch (XNNPACK)", "fp32", "executorch", "executorch-rewritten.pte"),
)

"""Makes the files of one tool, in a process of its own: see ``measure.py``.

    python -P files.py TOOL FOLDER

FOLDER holds ``net.onnx``, ``net.pt2`` and ``net.tflite``, the network as it was trained; ``swap.onnx`` and ``swap.pt2``, the same
after our exact rewrites; and ``crops.npy``, (N, 3, S, S) to calibrate on.  Each tool makes its files from them, with the options
that its documentation begins with.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

CALIBRATION = 16  # crops


def mnn(folder: Path) -> None:
    # Not through the command mnnconvert: it installs packages beside and sends what it did to its makers.
    import _tools

    for source, file, *options in (
        ("net", "mnn-fp32"),
        ("net", "mnn-fp16", "--fp16"),
        ("net", "mnn-w8", "--weightQuantBits", "8"),
        ("swap", "mnn-rewritten"),
    ):
        places = ("--modelFile", str(folder / f"{source}.onnx"), "--MNNModel", str(folder / f"{file}.mnn"))
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *places, "--bizCode", "benchmark", *options])


def openvino(folder: Path) -> None:
    import openvino as ov

    net = ov.convert_model(folder / "net.onnx")
    ov.save_model(net, folder / "openvino-fp32.xml", compress_to_fp16=False)
    ov.save_model(net, folder / "openvino-fp16.xml")
    ov.save_model(ov.convert_model(folder / "swap.onnx"), folder / "openvino-rewritten.xml", compress_to_fp16=False)
    import nncf

    crops = nncf.Dataset(crops_of(folder), lambda crop: crop)
    ov.save_model(nncf.quantize(net, crops, subset_size=CALIBRATION), folder / "openvino-w8a8.xml")


def executorch(folder: Path) -> None:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    def write(program: torch.export.ExportedProgram, name: str) -> None:
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        (folder / f"{name}.pte").write_bytes(lowered.buffer)

    net = torch.export.load(folder / "net.pt2")
    write(net, "executorch-fp32")
    write(torch.export.load(folder / "swap.pt2"), "executorch-rewritten")
    crops = [torch.from_numpy(crop) for crop in crops_of(folder)]
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(net.module(), quantizer)
    for crop in crops:
        prepared(crop)
    write(torch.export.export(convert_pt2e(prepared), (crops[0],)), "executorch-w8a8")


def onnx(folder: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Crops(CalibrationDataReader):
        left = iter(crops_of(folder))

        def get_next(self) -> dict[str, np.ndarray] | None:
            crop = next(self.left, None)
            return None if crop is None else {"target": crop}

    quant_pre_process(folder / "net.onnx", folder / "prepared.onnx", skip_symbolic_shape=True)
    quantize_static(folder / "prepared.onnx", folder / "net-w8a8.onnx", Crops(), per_channel=True)


def tflite(folder: Path) -> None:
    from ai_edge_quantizer import quantizer, recipe

    tool = quantizer.Quantizer(str(folder / "net.tflite"))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    for border in ("INPUT", "OUTPUT"):  # stay floats, as everyone else's do
        tool.update_quantization_recipe(".*", border, algorithm_key="no_quantize")
    crops = [{"target": np.ascontiguousarray(crop.transpose(0, 2, 3, 1))} for crop in crops_of(folder)]
    tool.quantize(tool.calibrate({"serving_default": crops})).export_model(str(folder / "net-w8a8.tflite"))


def crops_of(folder: Path) -> list[np.ndarray]:
    crops = np.load(folder / "crops.npy")
    return [crops[i : i + 1] for i in range(CALIBRATION)]


if __name__ == "__main__":
    {tool.__name__: tool for tool in (mnn, openvino, executorch, onnx, tflite)}[sys.argv[1]](Path(sys.argv[2]))

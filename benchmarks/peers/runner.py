"""Runs one file in one runtime, in a process of its own, whenever the parent asks: see ``measure.py``.

    python -P runner.py RUNTIME FILE THREADS TARGET.npy OUTPUTS.npz

Runs in our environment and in the peers', so it imports nothing of ours.  On each line from standard input, a number of frames,
it opens the file anew, runs and times that many frames, and answers with a line of JSON.  A frame is: the input handed over as the
array that the runtime takes, the network, both outputs read as arrays.  Every runtime has its default options but for threads.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

WARM_UP = 4
OUTPUTS = ("swapped", "mask")
Array = np.ndarray[Any, Any]
Frame = Callable[[], dict[str, Array]]  # outputs by name, in the runtime's own layout


def onnx(file: str, threads: int, target: Array, *, exact: bool = False) -> Frame:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: dict(zip(OUTPUTS, session.run(None, {name: target}), strict=True))


def onnx_exact(file: str, threads: int, target: Array) -> Frame:
    """With exact int8 products on x86 without VNNI, as an app must ask; ONNX Runtime's own int8 files do not open with it."""
    return onnx(file, threads, target, exact=True)


def tflite(file: str, threads: int, target: Array) -> Frame:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=file, num_threads=threads)
    interpreter.allocate_tensors()
    (entry,), exits = interpreter.get_input_details(), interpreter.get_output_details()
    value = np.ascontiguousarray(target.transpose(0, 2, 3, 1))

    def frame() -> dict[str, Array]:
        interpreter.set_tensor(entry["index"], value)
        interpreter.invoke()
        return _by_channels([interpreter.get_tensor(one["index"]) for one in exits], axis=-1)

    return frame


def ncnn(file: str, threads: int, target: Array) -> Frame:
    import ncnn as runtime

    net = runtime.Net()
    net.opt.num_threads = threads
    if net.load_param(file) != 0 or net.load_model(file.removesuffix("param") + "bin") != 0:
        raise SystemExit(f"ncnn cannot load {file}")
    values = np.ascontiguousarray(target[0])  # kept: a Mat borrows its memory
    into = net.input_names()[0]
    outof = [name for name in net.output_names() if name in (*OUTPUTS, "out0", "out1")]  # a part that nothing reads is one, too

    def frame() -> dict[str, Array]:
        extractor = net.create_extractor()
        extractor.input(into, runtime.Mat(values).clone())
        return _by_channels([np.array(extractor.extract(name)[1])[None] for name in outof], axis=1)

    return frame


def mnn(file: str, threads: int, target: Array) -> Frame:
    import MNN

    net = MNN.Interpreter(file)
    precision = "low" if file.endswith("fp16.mnn") else "high"
    session = net.createSession({"backend": "CPU", "numThread": threads, "precision": precision})
    entry, exits = net.getSessionInput(session), net.getSessionOutputAll(session)
    layout, dtype = MNN.Tensor_DimensionType_Caffe, MNN.Halide_Type_Float
    value = MNN.Tensor(entry.getShape(), dtype, target, layout)
    copies = {
        name: MNN.Tensor(tensor.getShape(), dtype, np.zeros(tensor.getShape(), np.float32), layout)
        for name, tensor in exits.items()
    }

    def frame() -> dict[str, Array]:
        entry.copyFrom(value)
        net.runSession(session)
        for name, tensor in exits.items():
            tensor.copyToHostTensor(copies[name])
        return {name: copy.getNumpyData() for name, copy in copies.items()}

    return frame


def openvino(file: str, threads: int, target: Array) -> Frame:
    import openvino as runtime

    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    model = runtime.Core().compile_model(file, "CPU", options)
    request = model.create_infer_request()

    def frame() -> dict[str, Array]:
        request.infer({0: target}, share_inputs=True)
        return {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(OUTPUTS)}

    return frame


def executorch(file: str, threads: int, target: Array) -> Frame:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    if portable_lib._threadpool_get_thread_count() != threads:
        portable_lib._unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(file).load_method("forward")
    value = torch.from_numpy(target)
    return lambda: dict(zip(OUTPUTS, (output.numpy() for output in method.execute([value])), strict=True))


def torch(file: str, threads: int, target: Array) -> Frame:
    import torch as runtime

    runtime.set_num_threads(threads)
    net = runtime.export.load(file).module()
    value = runtime.from_numpy(target)

    def frame() -> dict[str, Array]:
        with runtime.inference_mode():
            return dict(zip(OUTPUTS, (output.numpy() for output in net(value)), strict=True))

    return frame


RUNTIMES = {function.__name__: function for function in (onnx, onnx_exact, tflite, ncnn, mnn, openvino, executorch, torch)}


def _by_channels(arrays: list[Array], axis: int) -> dict[str, Array]:
    """Colours have three channels and the mask has one; some converters keep no names."""
    return {{3: "swapped", 1: "mask"}[array.shape[axis]]: array for array in arrays}


def channels_first(array: Array) -> Array:
    return array if array.shape[1] in (1, 3) else array.transpose(0, 3, 1, 2)


def answer(runtime: str, file: str, threads: int, target: Array, frames: int, outputs: str) -> dict[str, Any]:
    started = time.perf_counter()
    frame = RUNTIMES[runtime](file, threads, target)
    loaded = time.perf_counter()
    first = frame()
    ran = time.perf_counter()
    if not os.path.exists(outputs):
        arrays: dict[str, Any] = {name: channels_first(np.array(first[name], np.float32)) for name in OUTPUTS}
        np.savez(outputs, **arrays)
    for _ in range(WARM_UP):
        frame()
    times, used = [], time.process_time()
    for _ in range(frames):
        began = time.perf_counter()
        frame()
        times.append(1000 * (time.perf_counter() - began))
    return {
        "load_ms": 1000 * (loaded - started),
        "first_ms": 1000 * (ran - loaded),
        "times_ms": times,
        "cpu_ms": 1000 * (time.process_time() - used) / frames,
    }


def main(runtime: str, file: str, threads: str, target: str, outputs: str) -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some runtimes print
    frame = np.load(target)
    for line in sys.stdin:
        print(json.dumps(answer(runtime, file, int(threads), frame, int(line), outputs)), file=replies, flush=True)
    os._exit(0)  # some runtimes crash while unloading


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Packages of the real network, and one-operation programs built by coremltools' own builder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def package_of(artifact) -> Callable[[str, str], Path]:
    """(recipe, io) to the path of a package of the real network.  Do not write into it."""
    return lambda recipe, io: artifact("coreml", recipe, **({} if io == "image" else {"coreml_io": io}))


@pytest.fixture
def package(package_of, tmp_path) -> Path:
    """A copy of the float16 package with images, to damage."""
    return Path(shutil.copytree(package_of("fp16", "image"), tmp_path / "swap.mlpackage"))


@pytest.fixture
def edit():
    """Change the specification of a package in place."""

    def apply(package: Path, change: Callable[[object], None]) -> None:
        from coremltools.proto import Model_pb2

        path = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
        spec = Model_pb2.Model()
        spec.ParseFromString(path.read_bytes())
        change(spec)
        path.write_bytes(spec.SerializeToString())

    return apply


@pytest.fixture
def build(tmp_path) -> Callable[..., Path]:
    """(function of (mb, *inputs), input arrays, target) to the path of a package that holds just that, no pass applied."""

    def package(function, arrays: list[np.ndarray], target: str = "iOS16") -> Path:
        from mfs_deploy.backends.coreml import package as mil_package

        ct = mil_package.coremltools()
        from coremltools.converters.mil import Builder as mb
        from coremltools.converters.mil.mil import types

        kinds = {"float32": types.fp32, "float16": types.fp16, "int32": types.int32}
        specs = [mb.TensorSpec(shape=a.shape, dtype=kinds[a.dtype.name]) for a in arrays]
        release = getattr(ct.target, target)
        arguments = ["a", "b", "c"][: len(arrays)]
        scope = {"function": function, "mb": mb}
        # The builder names inputs after the parameters of the function it is given.
        exec(f"def body({', '.join(arguments)}): return function(mb, {', '.join(arguments)})", scope)
        with mil_package.quiet():
            program = mb.program(input_specs=specs, opset_version=release)(scope["body"])
            model = ct.convert(
                program,
                minimum_deployment_target=release,
                compute_precision=ct.precision.FLOAT32,
                pass_pipeline=ct.PassPipeline.EMPTY,
                skip_model_load=True,
            )
            path = tmp_path / "one.mlpackage"
            model.save(str(path))
        return path

    return package


@pytest.fixture
def evaluate(build):
    """Build, save, read back and run; also gives the kinds of the operations that were in the file."""

    def run(function, arrays: list[np.ndarray], target: str = "iOS16") -> tuple[list[np.ndarray], list[str]]:
        from mfs_deploy.backends.coreml import program as mil
        from mfs_deploy.backends.coreml.evaluator import Evaluator

        _, program = mil.load(build(function, arrays, target))
        outputs = Evaluator(program).run(dict(zip(program.inputs, arrays, strict=True)))
        return [outputs[name] for name in program.outputs], [op.kind for op in program.operations]

    return run

"""Packages of the real network, converted once, and one-operation programs built by coremltools' own builder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def contract():
    from mfs_deploy import architecture

    return architecture.get("mobilefaceswap").contract(224)


@pytest.fixture(scope="session")
def convert(graph, contract, tmp_path_factory) -> Callable[..., Path]:
    """(recipe, io, ...) to the path of a package of the real network; each is made once.  Do not write into it."""
    from mfs_deploy.backends import coreml
    from mfs_deploy.backends.base import Conversion
    from mfs_deploy.quant import recipe

    made: dict[tuple[str, str], Path] = {}

    def path(name: str, io: str) -> Path:
        if (name, io) not in made:
            folder = tmp_path_factory.mktemp(f"{name}-{io}")
            metadata = {"version": "1.2.3", "identity": "portrait"}
            coreml.convert(Conversion(graph, contract, recipe.load(name), metadata=metadata, coreml_io=io), folder)
            made[name, io] = folder / coreml.FILES[0]
        return made[name, io]

    return path


@pytest.fixture
def package(convert, tmp_path) -> Path:
    """A copy of the float16 package with images, to damage."""
    return Path(shutil.copytree(convert("fp16", "image"), tmp_path / "swap.mlpackage"))


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
        from mfs_deploy.backends import mil_package

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
        from mfs_deploy.backends import mil
        from mfs_deploy.backends.mil_run import Evaluator

        _, program = mil.load(build(function, arrays, target))
        outputs = Evaluator(program).run(dict(zip(program.inputs, arrays, strict=True)))
        return [outputs[name] for name in program.outputs], [op.kind for op in program.operations]

    return run

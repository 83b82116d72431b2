"""Bundles as the exporter writes them, made without exporting."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from mfs_deploy.architectures import INTERFACES
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest, reference_file
from mfs_deploy.bundle.manifest_types import SpecEntry
from mfs_deploy.bundle.provenance import tensor_entry
from mfs_deploy.contract import Contract
from mfs_deploy.evaluate import parity
from mfs_deploy.evaluate.reference import write_reference
from mfs_deploy.quant import recipes


def write_bare(folder: Path, arch: str) -> None:
    """A bundle with everything but networks; in place of one, a file of four bytes."""
    known = INTERFACES[arch]
    (folder / "swap.onnx").write_bytes(b"none")
    artifact = {"files": ["swap.onnx"], "layout": "NCHW", "inputs": [], "outputs": []}
    _write_manifest(folder, known.contract(known.sizes[0]), {"onnx": artifact})


def write(
    folder: Path,
    contract: Contract,
    artifacts: dict[str, Path],
    cases: list[parity.Case],
    reference: parity.Outputs,
) -> None:
    """A bundle in fp32 of artifacts by backend, and reference tensors."""
    entries = {}
    for name, path in artifacts.items():
        backend = BACKENDS[name]
        for file in backend.FILES:
            copy = shutil.copytree if (path.parent / file).is_dir() else shutil.copy
            copy(path.parent / file, folder / file)
        info = asdict(backend.describe(path))
        specs = {spec.name: cast(SpecEntry, asdict(spec)) for spec in (contract.input, *contract.outputs)}
        ends = {key: [tensor_entry(one, specs[one["name"]]) for one in info[key]] for key in ("inputs", "outputs")}
        entries[name] = {"files": list(backend.FILES), "layout": backend.LAYOUT, **ends}
    write_reference(folder, cases, reference)
    _write_manifest(folder, contract, entries)


def _write_manifest(folder: Path, contract: Contract, artifacts: dict[str, dict[str, Any]]) -> None:
    known, files = INTERFACES[contract.arch], manifest.list_files(folder)
    for entry in artifacts.values():
        of = {
            name: facts for name, facts in files.items() for file in entry["files"] if name == file or name.startswith(f"{file}/")
        }
        entry |= {"bytes": sum(facts["bytes"] for facts in of.values())}
        entry |= {
            "sha256": {name: facts["sha256"] for name, facts in of.items()},
            "recipe": "fp32",
            "format": "",
            "parameters": {},
        }
        entry |= {"macs": 0, "float32_layers": [], "parity": {"runtime": "", "cases": []}}
    said: dict[str, Any] = {
        **{"schema": manifest.SCHEMA, "tool": "tests", "architecture": contract.arch, "contract": contract.as_dict()},
        **{"recipes": {"fp32": recipes.without_name(asdict(recipes.load("fp32")))}, "calibration": {}},
        **{"alignment": known.alignment.as_dict(), "paste_back": known.paste_back.as_dict(), "artifacts": artifacts},
        **{"reference": {"file": reference_file.NAME}, "stages": {}, "float16": {}, "checkpoint": [], "weights": {"sha256": ""}},
        **{"versions": {}, "licences": {"code": "", "weights": ""}, "synthetic_media": manifest.DISCLOSURE, "files": files},
    }
    (folder / manifest.NAME).write_bytes(manifest.to_json(said))


def rewrite(folder: Path, change: Any) -> None:
    """Change a bundle's manifest, whatever ``mfs_deploy`` would say to it."""
    path = folder / manifest.NAME
    said = json.loads(path.read_text("utf-8"))
    change(said)
    path.write_text(json.dumps(said), "utf-8")


def replace(folder: Path, files: dict[str, bytes]) -> None:
    """Put other files into a bundle, the manifest agreeing."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    rewrite(folder, lambda said: said["files"].update({name: manifest.list_files(folder)[name] for name in files}))

"""Checks a bundle's files and manifest against each other, and against what this version writes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from mfs_deploy.architectures import INTERFACES
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest, provenance, reference_file
from mfs_deploy.bundle.manifest_types import Manifest
from mfs_deploy.contract import Contract
from mfs_deploy.errors import BundleError, UsageError
from mfs_deploy.quant import ranges_file, recipes


def verify_bundle(folder: Path, entries: Manifest) -> Contract:
    """Check a bundle against its manifest, and the manifest against what this version writes.

    Returns:
        the contract of its artifacts.

    Raises:
        BundleError: a file is missing, changed or unaccounted for, or an entry that apps rely on is wrong.
    """
    problems = manifest.verify(folder, entries)
    artifacts, arch, size = entries["artifacts"], entries["architecture"], entries["contract"]["size"]
    if not artifacts or not set(artifacts) <= set(BACKENDS):
        problems.append(f"artifacts are {sorted(artifacts)}; at least one is needed, of {', '.join(BACKENDS)}")
    if arch not in INTERFACES or size not in INTERFACES[arch].sizes:
        problems.append(f"{arch!r} at {size} is not known")
    for name, table in entries["recipes"].items():
        try:
            recipe = recipes.from_table(name, table)
            if name in recipes.names() and recipe != recipes.load(name):
                problems.append(f"recipe {name!r} is not what this version means by it")
        except UsageError as exc:
            problems.append(exc.message)
    if {artifact["recipe"] for artifact in artifacts.values()} != set(entries["recipes"]):
        problems.append("the artifacts' recipes are not those that the manifest explains")
    if problems:
        raise _damaged(folder, problems)
    known = INTERFACES[arch]
    contract = known.contract(size)
    files = {reference_file.NAME, provenance.PREVIEW, ranges_file.NAME, *(name for a in artifacts for name in BACKENDS[a].FILES)}
    problems += [f"{name!r} belongs to no artifact" for name in entries["files"] if name.split("/")[0] not in files]
    expected = {
        "contract": contract.as_dict(),
        "alignment": asdict(known.alignment) if entries["schema"] == 1 else known.alignment.as_dict(),
        "paste_back": asdict(known.paste_back) if entries["schema"] == 1 else known.paste_back.as_dict(),
        "synthetic_media": manifest.DISCLOSURE,
    }
    found: dict[str, object] = {**entries}
    for name, value in expected.items():
        if found[name] != json.loads(json.dumps(value)):
            problems.append(f"the manifest's {name} is not what this version writes")
    if problems:
        raise _damaged(folder, problems)
    return contract


def _damaged(folder: Path, problems: list[str]) -> BundleError:
    rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return BundleError(f"{folder}: {problems[0]}{rest}", hint="copy or export the bundle again")

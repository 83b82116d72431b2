"""One person's bundle from a kit: photo or identity file in, stamped bundle out.  No PyTorch, no converter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mfs_deploy.architectures import source_face
from mfs_deploy.bundle import publish as bundle
from mfs_deploy.bundle.manifest_types import Manifest
from mfs_deploy.checkpoint import identity_file
from mfs_deploy.checkpoint.identity_file import IdentityArrays
from mfs_deploy.errors import CheckpointError, UsageError
from mfs_deploy.faces import find
from mfs_deploy.faces.detectors import open_detector
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.stamping import kit as kits
from mfs_deploy.stamping.kit import Kit
from mfs_deploy.stamping.template import Template


@dataclass(frozen=True)
class StampRequest:
    """A kit, a person and where the bundle goes.  Exactly one of ``source`` and ``identity`` is given."""

    kit: Path
    out: Path
    backends: tuple[str, ...]
    recipe: str
    source: Path | None = None
    location: find.FaceLocation = find.DETECT
    identity: Path | None = None
    detector: Path | None = None


def export(request: StampRequest, progress: Progress = SILENT) -> Manifest:
    """Stamp a bundle; parity is not measured.

    Returns:
        its manifest.

    Raises:
        UsageError: not exactly one person, or the kit has no such template.
        MfsError: of the kind of what went wrong; then there is no new bundle, and an old one is as it was.
    """
    if (request.source is None) == (request.identity is None):
        raise UsageError("give exactly one of --source and --identity")
    if request.source is None and not request.location.is_default:
        raise UsageError("--landmarks, --aligned and --face say where the face is in --source PHOTO, and there is no such photo")
    progress.start(3)
    progress.step("open the kit")
    kit = kits.load(request.kit)
    templates = choose(kit, request.backends, request.recipe)
    progress.step("read the face")
    if request.identity is not None:
        person = read_identity(kit, request.identity)
    else:
        assert request.source is not None
        detector = None if request.detector is None else open_detector(request.detector)
        person = kit.embed([source_face.read(request.source, request.location, detector, kit.interface).crop])[0]
    progress.step("bake and stamp")
    (weights,) = kit.bake([person])
    with bundle.staging(request.out) as folder:
        manifest = kits.write_bundle(kit.common, templates, weights, folder)
        bundle.publish(folder, request.out)
    progress.finish()
    return manifest


def choose(kit: Kit, backends: tuple[str, ...], recipe: str) -> list[Template]:
    """The kit's templates of one recipe, in the order of ``backends``.

    Raises:
        UsageError: the kit has no such template.
        ConversionError: kind template: the kit is damaged.
    """
    held = {(t.backend, t.recipe["name"]): t for t in kit.templates}
    missing = [name for name in backends if (name, recipe) not in held]
    if missing:
        there = ", ".join(f"{backend} {name}" for backend, name in sorted(held))
        raise UsageError(f"the kit has no template for {missing[0]} {recipe}", hint=f"it has: {there}")
    chosen = [held[name, recipe] for name in backends]
    kit.check(chosen)
    return chosen


def read_identity(kit: Kit, path: Path) -> IdentityArrays:
    """Raises CheckpointError where the file holds no identity, or one of another encoder than the kit's."""
    person = identity_file.load(path, kit.interface.name)
    if kit.encoder_sha256 and person.encoder_sha256 != kit.encoder_sha256:
        raise CheckpointError(
            f"{path.name} comes from another identity encoder than this kit's",
            hint="read the photo again with mfs identity and this checkpoint",
            kind="identity",
        )
    return person

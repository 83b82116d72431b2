"""What a worker does with one chunk of people: read, encode, bake, stamp and publish."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mfs_deploy import files
from mfs_deploy.architectures import source_face
from mfs_deploy.batch import stores
from mfs_deploy.batch.people import PersonEntry
from mfs_deploy.batch.results import PersonResult
from mfs_deploy.batch.stores import Store
from mfs_deploy.checkpoint.identity_file import IdentityArrays
from mfs_deploy.errors import ConversionError, MfsError, OutputError
from mfs_deploy.faces import find, landmarks
from mfs_deploy.faces.detectors import Detector, open_detector
from mfs_deploy.faces.pixels import Image
from mfs_deploy.stamping import kit as kits
from mfs_deploy.stamping import person
from mfs_deploy.stamping.kit import Kit
from mfs_deploy.stamping.template import PersonWeights, Template

Chunk = list[PersonEntry]


@dataclass(frozen=True)
class BatchRequest:
    """A table of people, a kit, and where the bundles go.

    Attributes:
        out: a folder, or a URL as text.
        workers: as many as there are processors where it is 0.
        engine: "local" or "ray".
    """

    people: Path
    kit: Path
    out: Path | str
    backends: tuple[str, ...]
    recipe: str
    detector: Path | None = None
    workers: int = 0
    engine: str = "local"


def open_worker(request: BatchRequest) -> ChunkWorker:
    """Open the kit, once in each process.  Raises as ``stores.open_store``, ``kits.load`` and ``open_detector``."""
    store = stores.open_store(request.out)
    store.register_worker()
    kit = kits.load(request.kit)
    detector = None if request.detector is None else open_detector(request.detector)
    return ChunkWorker(store, kit, person.choose(kit, request.backends, request.recipe), detector)


@dataclass(frozen=True)
class ChunkWorker:
    """An opened kit, with the store that its bundles go to."""

    store: Store
    kit: Kit
    templates: list[Template]
    detector: Detector | None

    def run(self, chunk: Chunk, run_sha256: str) -> list[PersonResult]:
        """Make a chunk's bundles; a result for each person, in the order of ``chunk``.

        Raises:
            OutputError: no bundle can be written: the disk is full, or the store does not answer.
        """
        began = time.perf_counter()
        results: dict[str, PersonResult] = {}
        readable: list[tuple[PersonEntry, str, IdentityArrays | Image]] = []
        for entry in chunk:
            try:
                readable.append((entry, inputs_sha256(entry, run_sha256), read_person(entry, self.kit, self.detector)))
            except MfsError as exc:
                results[entry.id] = PersonResult(entry.id, "failed", error_kind=exc.kind, error=exc.message)
            except OSError as exc:
                results[entry.id] = PersonResult(entry.id, "failed", error_kind="unreadable", error=exc.strerror or str(exc))
            except Exception as exc:  # a bug of ours: it must not cost the others of the chunk
                message = f"{type(exc).__name__}: {exc}"
                results[entry.id] = PersonResult(entry.id, "failed", error_kind="unexpected", error=message)
        identities = self._identities([face for _, _, face in readable])
        shared_s = (time.perf_counter() - began) / max(1, len(chunk))
        baked = self.kit.bake(identities) if identities else iter(())
        for (entry, sha256, _), weights in zip(readable, baked, strict=True):
            results[entry.id] = self._publish(entry.id, sha256, weights, shared_s)
        return [results[entry.id] for entry in chunk]

    def _identities(self, faces: Sequence[IdentityArrays | Image]) -> list[IdentityArrays]:
        """Identities in the order of ``faces``; the photos among them are encoded together."""
        crops = [face for face in faces if not isinstance(face, IdentityArrays)]
        encoded = iter(self.kit.embed(crops) if crops else [])
        return [face if isinstance(face, IdentityArrays) else next(encoded) for face in faces]

    def _publish(self, name: str, sha256: str, weights: PersonWeights, shared_s: float) -> PersonResult:
        """Stamp one person's bundle and publish it.  Raises OutputError as ``run``."""
        began = time.perf_counter()
        try:
            with self.store.staging(name) as folder:
                manifest = kits.write_bundle(self.kit.common, self.templates, weights, folder)
                size = sum(facts["bytes"] for facts in manifest["files"].values())
                result = PersonResult(name, "done", sha256, weights.digest, size, _seconds(began, shared_s))
                self.store.publish(folder, result)
        except (ConversionError, OutputError) as exc:  # weights that are not finite; or a foreign folder where the bundle goes
            return PersonResult(name, "failed", error_kind=exc.kind, error=exc.message)
        except OSError as exc:  # the disk is full or gone, for the others too
            raise OutputError.from_os(exc) or exc from exc
        return replace(result, seconds=_seconds(began, shared_s))


def _seconds(began: float, shared_s: float) -> float:
    return round(shared_s + time.perf_counter() - began, 4)


def inputs_sha256(entry: PersonEntry, run_sha256: str) -> str:
    """Hash of everything that a person's bundle depends on.  Raises OSError where the person's file cannot be read."""
    facts = (run_sha256, files.sha256(Path(entry.photo or entry.identity)), entry.landmarks, str(entry.aligned), str(entry.face))
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def read_person(entry: PersonEntry, kit: Kit, detector: Detector | None) -> IdentityArrays | Image:
    """An identity, or an aligned face to be encoded.  Raises MfsError where there is neither."""
    if entry.identity:
        return person.read_identity(kit, Path(entry.identity))
    points = landmarks.parse(entry.landmarks) if entry.landmarks else None
    location = find.FaceLocation(points, entry.aligned, entry.face or None)
    return source_face.read(Path(entry.photo), location, detector, kit.interface).crop

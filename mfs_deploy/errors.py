"""Errors, each kind with its own exit code and a next step for the user.

Library code raises these; only ``cli.py`` prints them and exits.  Exit codes: 1 a bug, 2 usage, 3 to 12 below,
130 interrupted.
"""

from __future__ import annotations

import errno

# Error numbers of files that cannot be written.
REFUSED_WRITES = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP),
}


class MfsError(Exception):
    """A failure the user can act on.

    Args:
        message: one line: what was seen, and what is allowed.
        hint: one line: what to do next.
        kind: a stable word for scripts (``error.kind`` under ``--json``), where a class covers several cases.
    """

    exit_code = 1
    kind = "error"

    def __init__(self, message: str, *, hint: str = "", kind: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind = kind or type(self).kind

    def as_dict(self) -> dict[str, object]:
        return {"kind": self.kind, "message": self.message, "hint": self.hint, "exit_code": self.exit_code}


class UsageError(MfsError):
    """Options that do not fit together, or a value that is not allowed."""

    exit_code = 2
    kind = "usage"


class CheckpointError(MfsError):
    """A checkpoint (or identity) file that cannot be trusted or does not fit the network."""

    exit_code = 3
    kind = "checkpoint"


class PhotoError(MfsError):
    """A photo that cannot be read, or whose face cannot be used.

    ``kind`` is one of: photo-unreadable, no-face, several-faces, face-too-small, face-too-blurred, not-a-face.
    """

    exit_code = 4
    kind = "photo"


def install_line(extra: str) -> str:
    """With the pins: without them pip may bring a CUDA build of several GB, or versions that do not work together."""
    return f'in the folder of mfs-deploy: pip install -c constraints.txt ".[{extra}]"'


class MissingExtra(MfsError):
    """An optional dependency that is not installed."""

    exit_code = 5
    kind = "missing-extra"

    def __init__(self, extra: str, package: str, why: str) -> None:
        super().__init__(
            f"{why} needs {package}, which is not installed",
            hint=install_line(extra),
        )
        self.extra = extra


class ConversionError(MfsError):
    """A converter or runtime failed, or gave another result than requested."""

    exit_code = 6
    kind = "conversion"


class ParityError(MfsError):
    """An artifact's outputs differ from PyTorch's by more than the tolerance."""

    exit_code = 7
    kind = "parity"


class BundleError(MfsError):
    """A bundle or artifact that is damaged, incomplete, or from another schema."""

    exit_code = 8
    kind = "bundle"


class CalibrationError(MfsError):
    """A calibration set that cannot be used, or ranges that do not hold the values of this identity.

    ``kind`` is one of: calibration, calibration-too-few, calibration-too-alike, calibration-saturated.
    """

    exit_code = 10
    kind = "calibration"


class DeviceError(MfsError):
    """A phone that cannot be reached, or on which a step failed.

    ``kind`` is one of: device (a step failed there), device-tool (adb or devicectl is not here), device-none, device-several,
    device-refused (it does not let this computer in), device-old, device-app (the demo app is not there, or stopped), device-full,
    device-lost (unplugged), device-runtime (it runs none of the artifacts), device-silent.
    """

    exit_code = 11
    kind = "device"


class IncompleteError(MfsError):
    """A batch in which people failed; the others are done, and the results name the failed ones."""

    exit_code = 12
    kind = "incomplete"


class Interrupted(MfsError):
    """Ctrl-C, or the system asked us to stop."""

    exit_code = 130
    kind = "interrupted"


class OutputError(MfsError):
    """The output could not be written: no space, no permission, or something else is in the way."""

    exit_code = 9
    kind = "output"

    @classmethod
    def from_os(cls, exc: OSError) -> OutputError | None:
        """The error for a write that the system refused, or None where ``exc`` is something else."""
        if exc.errno not in REFUSED_WRITES:
            return None
        where = f": {exc.filename}" if exc.filename else ""
        hint = "nothing was changed; make room, or choose another --out or TMPDIR"
        return cls(f"{exc.strerror}{where}", hint=StoreFailed.hint if isinstance(exc, StoreFailed) else hint)


class StoreFailed(OSError):
    """An object store that cannot be reached or refuses: to be handled as a disk that fails."""

    hint = "look at the address, the rights and the network, and run it again: what is finished is kept"

    def __init__(self, url: str, why: str) -> None:
        super().__init__(errno.EIO, f"the store failed ({why})", url)

"""The architectures, by the name used in ``--arch``.  Adding one: a folder here, its card under ``models/``, and one line below."""

from __future__ import annotations

from mfs_deploy.architectures import mobilefaceswap, mobilefsgan
from mfs_deploy.architectures.base import Architecture, CheckpointFiles, Interface, Package
from mfs_deploy.errors import UsageError

ARCHITECTURES: dict[str, Package] = {
    "mobilefaceswap": mobilefaceswap,
    "mobilefsgan": mobilefsgan,
}
INTERFACES: dict[str, Interface] = {name: package.INTERFACE for name, package in ARCHITECTURES.items()}
FILES: dict[str, CheckpointFiles] = {name: package.FILES for name, package in ARCHITECTURES.items()}


def interface(name: str) -> Interface:
    """Raises UsageError where no architecture has that name."""
    if name not in INTERFACES:
        raise UsageError(f"no architecture is called {name!r}", hint=f"choose from: {', '.join(INTERFACES)}")
    return INTERFACES[name]


def get(name: str) -> Architecture:
    """As ``interface``, but with the networks: this imports PyTorch."""
    return ARCHITECTURES[interface(name).name].get()

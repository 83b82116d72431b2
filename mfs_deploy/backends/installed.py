"""Backends of other installed packages: entry points of the group ``mfs_deploy.backends``, each a name and a module.

Names come from the packages' metadata, which is read once, when a name that is not ours or the list of all names is asked for.  A
module is imported and checked when its backend is looked up.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from mfs_deploy.backends.base import Backend
from mfs_deploy.errors import ConversionError
from mfs_deploy.quant.recipes import Format

GROUP = "mfs_deploy.backends"
TEXTS = ("NAME", "TITLE", "EXTRA", "LAYOUT")
TUPLES = {"PACKAGES": str, "FORMATS": Format, "FILES": str}
FUNCTIONS = {"convert": ("job", "directory"), "open": ("path", "contract"), "describe": ("path",)}
LAYOUTS = ("NCHW", "CHW", "NHWC")


class Backends(Mapping[str, Backend]):
    """Our backends by name, then those of installed packages.

    Raises:
        ConversionError: kind backend: a package's backend has a name that is taken, or does not satisfy ``base.Backend``.
    """

    def __init__(self, ours: Mapping[str, Backend]) -> None:
        self._ours = ours

    def __getitem__(self, name: str) -> Backend:
        return self._ours[name] if name in self._ours else _load(self._installed[name])

    def __contains__(self, name: object) -> bool:
        return name in self._ours or name in self._installed

    def __iter__(self) -> Iterator[str]:
        yield from self._ours
        yield from self._installed

    def __len__(self) -> int:
        return len(self._ours) + len(self._installed)

    @property
    def _installed(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in _points():
            if point.name in self._ours or point.name in found:
                owner = "mfs-deploy itself" if point.name in self._ours else _package(found[point.name])
                raise _refused(point, f"has the name of a backend of {owner}")
            found[point.name] = point
        return found


@functools.cache
def _points() -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=GROUP), key=lambda point: point.name))


@functools.cache
def _load(point: EntryPoint) -> Backend:
    try:
        module = point.load()
    except (ImportError, AttributeError) as exc:
        raise _refused(point, f"cannot be imported: {exc}") from exc
    if problems := problems_of(module, point.name):
        raise _refused(point, f"does not satisfy mfs_deploy.backends.base.Backend: {'; '.join(problems)}")
    return cast(Backend, module)


def problems_of(module: object, name: str) -> list[str]:
    """Reasons why a module is not a backend called ``name``; empty if it is one."""
    problems = [f"{key} must be text" for key in TEXTS if not isinstance(getattr(module, key, None), str)]
    if not problems and name != module.NAME:  # type: ignore[attr-defined]
        problems.append(f"NAME must be {name!r}, as its entry point")
    if not problems and module.LAYOUT not in LAYOUTS:  # type: ignore[attr-defined]
        problems.append(f"LAYOUT must be one of {', '.join(LAYOUTS)}")
    if not isinstance(getattr(module, "RUNS_HERE", None), bool):
        problems.append("RUNS_HERE must be True or False")
    for key, kind in TUPLES.items():
        values = getattr(module, key, None)
        if (
            not isinstance(values, tuple)
            or not all(isinstance(value, kind) for value in values)
            or (not values and key != "PACKAGES")
        ):
            problems.append(f"{key} must be a tuple of {'text' if kind is str else 'quant.recipes.Format'}")
    for key, parameters in FUNCTIONS.items():
        try:
            inspect.signature(getattr(module, key)).bind(*parameters)
        except (AttributeError, TypeError, ValueError):
            problems.append(f"{key} must be a function of {' and '.join(parameters)}")
    return problems


def _package(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist is not None else point.value


def _refused(point: EntryPoint, why: str) -> ConversionError:
    return ConversionError(
        f"the backend {point.name!r} of {_package(point)} {why}", hint="uninstall that package, or ask its authors", kind="backend"
    )

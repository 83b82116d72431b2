"""Recipes: which number format goes where, as named TOML files in ``export_configs/``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from importlib import resources

from mfs_deploy.errors import UsageError

FORMATS = ("float32", "float16")


@dataclass(frozen=True)
class Recipe:
    """A number format for weights as stored, and for activations as computed where the runtime can."""

    name: str
    weights: str
    activations: str
    description: str

    @property
    def is_float16(self) -> bool:
        return "float16" in (self.weights, self.activations)


def names() -> list[str]:
    """The recipes that exist."""
    return sorted(p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml"))


def load(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        UsageError: no such recipe, or its file holds a key or a format that is not known.
    """
    if name not in names():
        raise UsageError(f"no recipe is called {name!r}", hint=f"choose from: {', '.join(names())}")
    table = tomllib.loads(_folder().joinpath(f"{name}.toml").read_text("utf-8"))
    known = {f.name for f in fields(Recipe)} - {"name"}
    if set(table) != known:
        raise UsageError(f"recipe {name}: keys are {sorted(table)}, must be {sorted(known)}")
    for key in ("weights", "activations"):
        if table[key] not in FORMATS:
            raise UsageError(f"recipe {name}: {key} = {table[key]!r}", hint=f"choose from: {', '.join(FORMATS)}")
    return Recipe(name=name, **table)


def _folder() -> resources.abc.Traversable:
    return resources.files("mfs_deploy.export_configs")

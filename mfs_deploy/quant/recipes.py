"""Recipes: the number format of each operation, as named TOML files in ``export_configs/``, whose README explains the names."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mfs_deploy.contract import NOTHING_PASSES, Tolerance
from mfs_deploy.errors import UsageError
from mfs_deploy.files import shipped

WEIGHTS = ("float32", "float16", "int8", "palette6", "palette4")
ACTIVATIONS = ("float32", "float16", "int8", "int16")
KINDS = ("conv", "linear", "leaky_relu", "resize", "pad", "concat", "sigmoid", "tanh", "add", "sub", "mul", "div")
TABLES = ("operations", "layers")
METHODS = ("minmax", "percentile", "kl")  # of choosing ranges; see ``ranges``


@dataclass(frozen=True)
class Format:
    """Number formats of one operation: of its weights as stored, and of its outputs where the runtime computes in them.

    int8 weights have a scale per output channel and no zero point; int8 and int16 values one scale per tensor.  A palette holds
    2 ** 6 or 2 ** 4 values per tensor.
    """

    weights: str
    activations: str

    @property
    def is_static(self) -> bool:
        """Whether values are integers, whose ranges calibration must measure."""
        return self.activations.startswith("int")

    def __str__(self) -> str:
        return f"{self.weights} weights, {self.activations} activations"


@dataclass(frozen=True)
class Range:
    """The lowest and the highest of a node's values."""

    low: float
    high: float

    @property
    def largest(self) -> float:
        """Largest absolute value, for formats without a zero point."""
        return max(-self.low, self.high)


@dataclass(frozen=True)
class Recipe:
    """A default format, exceptions by kind of operation, and exceptions by name, which come first.

    ``gate``: the tolerance of an artifact's parity with PyTorch.
    """

    name: str
    weights: str
    activations: str
    description: str
    operations: Mapping[str, Format] = field(default_factory=dict)
    layers: Mapping[str, Format] = field(default_factory=dict)
    gate: Tolerance = NOTHING_PASSES

    @property
    def default(self) -> Format:
        return Format(self.weights, self.activations)

    @property
    def is_float16(self) -> bool:
        return any("float16" in (f.weights, f.activations) for f in self.all_formats())

    @property
    def is_static(self) -> bool:
        """Whether it needs the ranges of values, so a calibration."""
        return any(f.is_static for f in self.all_formats())

    @property
    def may_overflow(self) -> bool:
        """Whether some runtime computes in float16: in float16 recipes, and between the integer operations of static ones."""
        return self.is_float16 or self.is_static

    def all_formats(self) -> tuple[Format, ...]:
        """The default, then those of kinds and layers."""
        return (self.default, *self.operations.values(), *self.layers.values())

    def formats(self, kinds: Mapping[str, str]) -> dict[str, Format]:
        """The format of each operation, given name to kind (``graph.operation_kinds``): by name, else by kind, else the default.

        Raises:
            UsageError: a layer that the network does not have.
        """
        if unknown := sorted(set(self.layers) - set(kinds)):
            raise UsageError(
                f"recipe {self.name}: the network has no layer {', '.join(unknown)}", hint=f"its layers: {', '.join(kinds)}"
            )
        return {name: self.layers.get(name, self.operations.get(kind, self.default)) for name, kind in kinds.items()}


def names() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml"))


def load(name: str) -> Recipe:
    """The recipe called ``name``, or that in a file where ``name`` ends in .toml.

    Raises:
        UsageError: no such recipe, or its file holds an unknown key or format.
    """
    if name.endswith(".toml"):
        try:
            return parse(Path(name).stem, Path(name).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"the recipe {name} cannot be read: {exc}", hint=f"or choose from: {', '.join(names())}") from exc
    if name not in names():
        raise UsageError(f"no recipe is called {name!r}", hint=f"choose from: {', '.join(names())}, or give a .toml file")
    return parse(name, _folder().joinpath(f"{name}.toml").read_text("utf-8"))


def parse(name: str, text: str) -> Recipe:
    """A recipe from TOML.

    Raises:
        UsageError: not TOML, or an unknown key or format.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"recipe {name} is not TOML: {exc}") from exc
    return from_table(name, table)


def from_table(name: str, table: Mapping[str, Any]) -> Recipe:
    """A recipe from its file's content.

    Raises:
        UsageError: an unknown key or format.
    """
    required = {"description", "weights", "activations", "gate"}
    _check_keys(name, "keys", set(table), required, required | set(TABLES))
    if not isinstance(table["description"], str):
        raise UsageError(f"recipe {name}: description must be text")
    default = _format(name, {key: table[key] for key in ("weights", "activations")})
    overrides = {key: _overrides(name, key, table.get(key, {})) for key in TABLES}
    _check_keys(name, "operations", set(overrides["operations"]), set(), set(KINDS))
    return Recipe(name, default.weights, default.activations, table["description"], **overrides, gate=_gate(name, table["gate"]))


def from_dict(table: Mapping[str, Any]) -> Recipe:
    """The inverse of ``dataclasses.asdict``.

    Raises:
        UsageError: an unknown key or format.
    """
    return from_table(table["name"], without_name(table))


def without_name(table: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as ``asdict`` gives it, without its name: as ``from_table`` takes it and a manifest has it."""
    return {key: value for key, value in table.items() if key != "name"}


def to_toml(recipe: Recipe) -> str:
    """The file that ``parse`` reads as this recipe."""

    def section(title: str, values: Mapping[str, object]) -> list[str]:
        return [f"\n[{title}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]

    lines = [f"{key} = {_toml(getattr(recipe, key))}" for key in ("description", "weights", "activations")]
    lines += section("gate", asdict(recipe.gate))
    for key in TABLES:
        for item, number_format in getattr(recipe, key).items():
            lines += section(f"{key}.{item}", asdict(number_format))
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A text or a number as in JSON, except that TOML has no surrogate pairs and requires DEL to be escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")


def _gate(name: str, table: Any) -> Tolerance:
    keys = {f.name for f in fields(Tolerance)}
    if not isinstance(table, dict):
        raise UsageError(f"recipe {name}: gate must be a table [gate]")
    _check_keys(name, "gate", set(table), keys, keys)
    for key, value in table.items():
        if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
            raise UsageError(f"recipe {name}: gate.{key} = {value!r}, must be a number")
    return Tolerance(**{key: float(value) for key, value in table.items()})


def _overrides(name: str, key: str, table: Any) -> dict[str, Format]:
    if not isinstance(table, dict) or not all(isinstance(value, dict) for value in table.values()):
        raise UsageError(f"recipe {name}: {key} must hold tables such as [{key}.NAME]")
    return {item: _format(name, value, f"{key}.{item}") for item, value in table.items()}


def _format(name: str, table: dict[str, Any], place: str = "") -> Format:
    allowed = {"weights": WEIGHTS, "activations": ACTIVATIONS}
    _check_keys(name, place or "keys", set(table), set(allowed), set(allowed))
    for key, choices in allowed.items():
        if table[key] not in choices:
            where = f"{place}.{key}" if place else key
            raise UsageError(f"recipe {name}: {where} = {table[key]!r}", hint=f"choose from: {', '.join(choices)}")
    return Format(**table)


def _check_keys(name: str, place: str, keys: set[str], required: set[str], allowed: set[str]) -> None:
    if unknown := sorted(keys - allowed):
        hint = f"choose from: {', '.join(sorted(allowed))}"
        raise UsageError(f"recipe {name}: {place}: {', '.join(unknown)} not known", hint=hint)
    if missing := sorted(required - keys):
        raise UsageError(f"recipe {name}: {place}: {', '.join(missing)} missing")


def _folder() -> Path:
    return shipped("export_configs")

"""JSON files as types: a ``TypedDict`` says what a file holds, and what was read is checked against it before use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

LARGEST = 1e15  # of any number in a file


@dataclass(frozen=True)
class Since:
    """``Annotated[X, Since(2)]``: files of an earlier schema lack this entry."""

    schema: int


@dataclass(frozen=True)
class Entry:
    """One key of a ``TypedDict``."""

    kind: Any
    since: int = 1
    required: bool = True


def parse(text: str) -> Any:
    """JSON as a stranger may write it, its numbers finite and of a size that can be printed.

    Raises:
        ValueError: it is no JSON, or holds another number.
        RecursionError: it is nested too deeply.
    """

    def number(kind: type[int] | type[float]) -> Any:
        def read(digits: str) -> int | float:
            value = kind(digits)
            if not abs(value) <= LARGEST:  # so also for NaN
                raise ValueError(f"{digits[:20]} is no number that makes sense")
            return value

        return read

    return json.loads(text, parse_int=number(int), parse_float=number(float), parse_constant=number(float))


@cache
def entries(kind: Any) -> dict[str, Entry]:
    """The keys of a ``TypedDict``."""
    found = {}
    for key, hint in get_type_hints(kind, include_extras=True).items():
        entry = Entry(hint)
        while get_origin(entry.kind) in (Annotated, NotRequired):
            inner, *notes = get_args(entry.kind)
            since = next((note.schema for note in notes if isinstance(note, Since)), entry.since)
            entry = Entry(inner, since, entry.required and get_origin(entry.kind) is not NotRequired)
        found[key] = entry
    return found


def schema_error(value: object, kind: Any, where: str, *, schema: int = 1) -> str | None:
    """What is not of its type, in words that name it, or None.

    A ``TypedDict`` of ``total=False`` is empty or whole.  An int is a float too; a bool is neither.

    Args:
        kind: str, int, float, bool, Any, list[X], dict[str, X], a ``TypedDict``, or a union of these.
        where: how errors name ``value``.
        schema: of the file; entries of later ones must be missing.
    """
    kind = _nearest(value, kind)
    if kind in (NoneType, Any):
        return None
    if is_typeddict(kind) or get_origin(kind) is dict:
        if not isinstance(value, dict):
            return f"{where} is no object"
        if is_typeddict(kind):
            kinds_of, problem = _kinds_of(value, kind, schema)
            if problem:
                return f"{where} {problem}"
        else:
            kinds_of = dict.fromkeys(value, get_args(kind)[1])
        parts = [(f"{where}.{key!r}"[:120], value[key], inner) for key, inner in kinds_of.items()]
    elif get_origin(kind) is list:
        if not isinstance(value, list):
            return f"{where} is no list"
        parts = [(f"{where}[{i}]", item, get_args(kind)[0]) for i, item in enumerate(value)]
    else:
        fits = isinstance(value, (int, float) if kind is float else kind) and not (kind in (int, float) and isinstance(value, bool))
        return None if fits else f"{where} is of type {type(value).__name__}"
    problems = (schema_error(item, inner, place, schema=schema) for place, item, inner in parts)
    return next(filter(None, problems), None)


def _kinds_of(value: dict[str, object], kind: Any, schema: int) -> tuple[dict[str, Any], str]:
    """Types by key, of the keys that ``value`` has; and what is wrong with its keys, or ""."""
    known = {key: entry for key, entry in entries(kind).items() if entry.since <= schema}
    wanted = {key for key, entry in known.items() if entry.required}
    if not kind.__total__ and not value:
        wanted = set()
    odd = (wanted - set(value)) | (set(value) - set(known))
    if odd:
        return {}, f"lacks or adds {sorted(map(repr, odd))[:3]}"
    return {key: entry.kind for key, entry in known.items() if key in value}, ""


def without_unknown(value: object, kind: Any) -> Any:
    """``value`` without the keys that its type has not, where its writer may say more than is read."""
    kind = _nearest(value, kind)
    if isinstance(value, dict) and (is_typeddict(kind) or get_origin(kind) is dict):
        kinds = {key: entry.kind for key, entry in entries(kind).items()} if is_typeddict(kind) else None
        inner = {key: get_args(kind)[1] if kinds is None else kinds.get(key) for key in value}
        return {key: without_unknown(value[key], one) for key, one in inner.items() if one is not None}
    if isinstance(value, list) and get_origin(kind) is list:
        return [without_unknown(item, get_args(kind)[0]) for item in value]
    return value


def _nearest(value: object, kind: Any) -> Any:
    """Of a union the type that ``value`` seems to be meant as: of ``TypedDict``s that whose keys differ least."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    kinds = [one for one in get_args(kind) if one is not NoneType]
    if value is None and len(kinds) < len(get_args(kind)):
        return NoneType
    if len(kinds) == 1 or not isinstance(value, dict):
        return kinds[0]
    return min(kinds, key=lambda one: len(set(entries(one)) ^ set(value)))

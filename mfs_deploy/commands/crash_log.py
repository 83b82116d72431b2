"""The file to paste into a bug report: versions, platform, command line, traceback; no names of photos or people."""

from __future__ import annotations

import os
import platform
import re
import traceback
from collections.abc import Collection, Sequence
from importlib import metadata
from pathlib import Path, PurePath

from mfs_deploy import __version__
from mfs_deploy.files import cache_folder, write

NAME = "last-error.txt"
PACKAGES = ("torch", "onnx", "onnxruntime", "litert-torch", "ai-edge-litert", "coremltools", "ncnn", "pnnx", "numpy", "click")
PICTURES = (".jpg", ".jpeg", ".png", ".heic", ".webp", ".mp4", ".mov")
SUFFIXES = (*PICTURES, ".csv", ".parquet", ".json", ".toml", ".onnx", ".tar", ".tgz", ".pdparams", ".pth", ".pt", ".safetensors")
SHORTEST = 3  # characters of a part of a path that is blotted out elsewhere in the text: shorter ones are in every word


def save(exc: BaseException, args: Sequence[str], vocabulary: Collection[str]) -> Path | None:
    """Write ``text`` into the cache; the file's path, or None where it cannot be written."""
    path = cache_folder(".") / NAME
    try:
        write(path, text(exc, args, vocabulary).encode())
    except OSError:
        return None
    return path


def text(exc: BaseException, args: Sequence[str], vocabulary: Collection[str]) -> str:
    """The report.

    Args:
        args: of the command line.
        vocabulary: words of ours, which may be shown: verbs, names of backends and recipes, values to choose from.
    """
    versions = {name: _version(name) for name in PACKAGES}
    lines = [
        f"mfs-deploy {__version__}, Python {platform.python_version()}, {platform.platform()}",
        ", ".join(f"{name} {version or '-'}" for name, version in versions.items()),
        " ".join(("mfs", *(_shown(arg, vocabulary) for arg in args))),
        "",
        "".join(traceback.format_exception(exc)),
    ]
    return without_values("\n".join(lines), args, vocabulary)


def without_values(message: str, args: Sequence[str], vocabulary: Collection[str]) -> str:
    """``message`` without the user's own words: values of the command line, the parts of paths, the home folder."""
    private = {os.path.expanduser("~"), os.getcwd()} - {"/"}
    for arg in args:
        value = arg.partition("=")[2] if arg.startswith("-") else arg
        if value and not _is_ours(value, vocabulary):
            parts = [*PurePath(value).parts, PurePath(value).stem]
            private |= {value, *(part for part in parts if len(part) >= SHORTEST and part not in vocabulary)}
    for value in sorted(private, key=len, reverse=True):
        message = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "<value>", message)
    return message


def _shown(arg: str, vocabulary: Collection[str]) -> str:
    if arg.startswith("-"):
        name, equals, value = arg.partition("=")
        return f"{name}={_shown(value, vocabulary)}" if equals else name
    if _is_ours(arg, vocabulary):
        return arg
    suffix = PurePath(arg).suffix.lower()
    return f"<value>{suffix if suffix in SUFFIXES else ''}"


def _is_ours(value: str, vocabulary: Collection[str]) -> bool:
    words = value.split(",")
    return all(word in vocabulary or re.fullmatch(r"\d+(\.\d+)?", word) for word in words)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""

"""The command line: the tree of verbs, and the one place where errors become a line of text and an exit code."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Sequence

import click

from mfs_deploy import __version__
from mfs_deploy.commands import (
    arm64,
    batch,
    bench,
    crash_log,
    doctor,
    export,
    identity,
    inspect,
    kit,
    parity,
    quantize,
    report,
    stamp,
    swap,
)
from mfs_deploy.errors import (
    Interrupted,
    MfsError,
    MissingExtra,
    OutputError,
    UsageError,
)

CONVERSION_PACKAGES = {"torch": "torch", "skimage": "scikit-image"}  # import name to package, of the extra every backend has


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mfs-deploy")
def mfs() -> None:
    """Bake one person's face-swap network, export it to phones, and prove that it matches PyTorch."""


for verb in (export, quantize, kit, stamp, batch, identity, parity, bench, report, arm64, inspect, swap, doctor):
    mfs.add_command(verb.command)
mfs.add_command(click.Group("template", commands=kit.command.commands, help=kit.command.help, hidden=True))  # its former name


def main(argv: Sequence[str] | None = None) -> int:
    """``mfs``."""
    return run(mfs, argv)


def main_export(argv: Sequence[str] | None = None) -> int:
    """``mfs-export``, the same function as ``mfs export``."""
    return run(export.command, argv)


def run(command: click.Command, argv: Sequence[str] | None) -> int:
    """Run a command and return its exit code; no exception leaves."""
    args = list(sys.argv[1:] if argv is None else argv)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is signal.SIG_DFL:  # not where nohup has it ignored
            signal.signal(ending, signal.default_int_handler)  # clean up as after Ctrl-C
    try:
        return command.main(args=args, prog_name=None, standalone_mode=False) or 0
    except MfsError as exc:
        return print_error(exc, as_json="--json" in args)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        if "--json" in args:
            return print_error(UsageError(exc.format_message()), as_json=True)
        exc.show()
        return exc.exit_code
    except ModuleNotFoundError as exc:
        package = (exc.name or "").split(".")[0]
        if package not in CONVERSION_PACKAGES:
            return print_bug(exc, args)
        return print_error(MissingExtra("all", CONVERSION_PACKAGES[package], "this command"), as_json="--json" in args)
    except (KeyboardInterrupt, click.Abort) as exc:
        if isinstance(exc.__context__, EOFError):  # click takes it for a closed terminal; we never ask anything
            return print_bug(exc, args)
        return print_error(Interrupted("interrupted"), as_json="--json" in args)
    except BrokenPipeError:
        return 0
    except OSError as exc:
        refused = OutputError.from_os(exc)
        return print_bug(exc, args) if refused is None else print_error(refused, as_json="--json" in args)
    except Exception as exc:
        return print_bug(exc, args)


def print_error(error: MfsError, *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"error": error.as_dict()}, indent=2))
    else:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"  -> {error.hint}", err=True)
    return error.exit_code


def print_bug(exc: BaseException, args: Sequence[str]) -> int:
    """Report an unexpected exception.  Exit code 1 means this and nothing else."""
    words = {"demo", *_words(mfs)}
    path = crash_log.save(exc, args, words)
    if path is None:
        click.echo(crash_log.text(exc, args, words), err=True)
    summary = crash_log.without_values(f"{type(exc).__name__}: {exc}", args, words).splitlines()[0]
    hint = f"please report it with {path}, which names no file and nobody" if path else "please report it with the lines above"
    return print_error(MfsError(f"this is a bug in mfs-deploy: {summary}", hint=hint, kind="bug"), as_json="--json" in args)


def _words(command: click.Command) -> Iterator[str]:
    """Verbs, and what options may be chosen from."""
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice):
            yield from map(str, parameter.type.choices)
        if isinstance(parameter.default, str):
            yield from parameter.default.split(",")
    for name, verb in getattr(command, "commands", {}).items():
        yield name
        yield from _words(verb)

"""The command line: the tree of verbs, and the one place where errors become a line of text and an exit code."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence

import click

from mfs_deploy import __version__
from mfs_deploy.commands import doctor, export, identity, inspect, parity, swap
from mfs_deploy.errors import MfsError, OutputError

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mfs-deploy")
def mfs() -> None:
    """Bake one person's face-swap network, export it to phones, and prove that it matches PyTorch."""


for verb in (export, identity, parity, inspect, swap, doctor):
    mfs.add_command(verb.command)


def main(argv: Sequence[str] | None = None) -> int:
    """``mfs``."""
    return run(mfs, argv)


def main_export(argv: Sequence[str] | None = None) -> int:
    """``mfs-export``, the same function as ``mfs export``."""
    return run(export.command, argv)


def run(command: click.Command, argv: Sequence[str] | None) -> int:
    """Run a command and return its exit code; no exception leaves."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        return command.main(args=args, prog_name=None, standalone_mode=False) or 0
    except MfsError as exc:
        return report(exc, as_json="--json" in args)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing was changed", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except OSError as exc:
        refused = OutputError.from_os(exc)
        return unexpected() if refused is None else report(refused, as_json="--json" in args)
    except Exception:
        return unexpected()


def report(error: MfsError, *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"error": error.as_dict()}, indent=2))
    else:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"  -> {error.hint}", err=True)
    return error.exit_code


def unexpected() -> int:
    traceback.print_exc()
    click.echo("error: this is a bug in mfs-deploy; please report the lines above", err=True)
    return 1

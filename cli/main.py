"""`lmaas`: builds the commands and turns what went wrong into one line and an exit code (docs/exit-codes.md)."""

import errno
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from lmaas.analysis.errors import Exit, UserError

from . import (
    analyze,
    calibrate,
    compare,
    config,
    doctor,
    evaluate,
    forecast,
    ingest,
    init,
    policies,
    predict,
    profile,
    report,
    runs,
    synth,
    traces,
    train,
    validate,
)
from .help import OVERVIEW
from .screen import Screen, fail
from .settings import taken, with_settings

ANYWHERE = ("--no-color", "-q", "--quiet", "-v", "--verbose")  # accepted before and after the command
MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}  # not our bug, not the input's
INTERRUPTED = 130


class Overview(TyperGroup):
    """The group whose help is the first screen."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Hand-written: a list of commands in alphabetical order teaches nobody where to start."""
        formatter.write(OVERVIEW)


# without rich: help must come in 0.3 s, and locals in a traceback would show what a trace holds
app = typer.Typer(cls=Overview, rich_markup_mode=None, pretty_exceptions_show_locals=False)
for module in (
    ingest,
    validate,
    analyze,
    forecast,
    evaluate,
    compare,
    report,
    train,
    predict,
    calibrate,
    synth,
    init,
    doctor,
):
    app.command(module.__name__.rpartition(".")[2])(module.command)
for module in (traces, policies, profile, runs, config):
    app.add_typer(module.app, name=module.__name__.rpartition(".")[2])


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"lmaas {version('lmaas')}")
        raise typer.Exit


@app.callback()
def lmaas(
    ctx: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only data and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="All sections of the report.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colour, as with NO_COLOR.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Analyse LLM-serving traces and test scaling and routing policies offline."""
    screen: Screen = ctx.obj
    screen.quiet, screen.verbose, screen.color = quiet, verbose, not no_color


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    typed = tuple(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in typed
    try:
        root = get_command(app)
        stripped, file = taken(typed)
        args = hoisted(stripped)
        whole = with_settings(args, root, file)
        said = typed if whole == args else tuple(whole)
        code = root.main(whole or ["--help"], prog_name="lmaas", standalone_mode=False, obj=Screen(said, config=file))
    except UserError as error:
        return fail(str(error), int(error.code), as_json=as_json)
    except typer.TyperException as error:
        return fail(usage(error), error.exit_code, as_json=as_json)
    except MemoryError:
        return fail("out of memory; try a shorter part of the trace", Exit.ENVIRONMENT, as_json=as_json)
    except OSError as error:
        if error.errno in MACHINE:
            return fail(f"{error.filename or 'this machine'}: {error.strerror}", Exit.ENVIRONMENT, as_json=as_json)
        return _bug(error, as_json)
    except Exception as error:
        return _bug(error, as_json)
    if code == INTERRUPTED:
        left = "interrupted; a run that was begun stays in the workspace: lmaas runs list, lmaas runs prune"
        return fail(left, INTERRUPTED, as_json=as_json)
    return code or 0


def hoisted(argv: Sequence[str]) -> list[str]:
    """`argv` with the options that hold anywhere moved to the front."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    front = [a for a in argv[:end] if a in ANYWHERE]
    return [*front, *(a for a in argv[:end] if a not in ANYWHERE), *argv[end:]]


def usage(error: typer.TyperException) -> str:
    """What is wrong with the command line, the nearest right word, and where help is."""
    near = sorted(getattr(error, "possibilities", None) or ())
    message = f"{error.message.rstrip('.')}; did you mean {' or '.join(near)}?" if near else error.format_message()
    context = getattr(error, "ctx", None)
    return f"{message}\nTry '{context.command_path} --help'." if context else message


def _bug(error: Exception, as_json: bool) -> int:
    traceback.print_exception(error)
    return fail(f"internal error: {type(error).__name__}: {error}", Exit.BUG, as_json=as_json)


if __name__ == "__main__":
    sys.exit(main())

"""Where words go: data to stdout, everything else to stderr, and how much of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmaas.reports.format import text

if TYPE_CHECKING:
    from rich.console import Console

    from lmaas.reports.section import Section
    from lmaas.reports.write import Written

SCHEMA_VERSION = "1.0"


@dataclass
class Screen:
    """What the user asked for in `-q`, `-v`, `--no-color` and `--config`, and the command line as it was typed."""

    argv: tuple[str, ...] = ()
    quiet: bool = False
    verbose: bool = False
    color: bool = True
    config: Path | None = None  # of --config

    def out(self) -> Console:
        """stdout, for data."""
        from lmaas.reports.terminal import console

        return console(color=self.color)

    def say(self, message: str) -> None:
        """One line on stderr, unless `--quiet`."""
        if not self.quiet:
            print(printable(message), file=sys.stderr)

    def sections(self, sections: Sequence[Section], *, md: bool = False) -> None:
        """Sections without a report on stdout, every row of theirs; or as Markdown."""
        if md:
            from lmaas.reports.markdown import markdown

            print(markdown(sections), end="")
            return
        from lmaas.reports.terminal import show_sections

        show_sections(sections, self.out())

    def present(self, written: Written, after: str, *, as_json: bool) -> None:
        """What a run found on stdout; where its report is and what to do after it on stderr."""
        if as_json:
            emit(written.exit_code, **written.facts(), **written.metrics)
            return
        from lmaas.reports.terminal import show

        show(written.report, self.out(), everything=self.verbose)
        self.say(f"\nReport: {written.html}\nNext:   {after}")

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[str, float], None]]:
        """A callback (label, share done) that draws a bar on stderr where that is a terminal; see `bars`."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda label, done: None
            return
        from lmaas.reports.terminal import console

        from .bars import bars

        with bars(what, console(error=True, color=self.color)) as step:
            yield step


def printable(message: str) -> str:
    """`message` with control characters made visible: a file name can hold terminal commands."""
    return "\n".join(text(line) for line in message.split("\n"))


def emit(exit_code: int, **content: Any) -> None:
    """The one JSON object of `--json` on stdout."""
    head = {"schema_version": SCHEMA_VERSION, "ok": exit_code == 0, "exit_code": exit_code}
    json.dump(head | content, sys.stdout, allow_nan=False)
    print(flush=True)


def fail(message: str, exit_code: int, *, as_json: bool, extra: Mapping[str, Any] | None = None) -> int:
    """Say what went wrong on stderr, and on stdout as JSON where asked; returns the code."""
    print(f"lmaas: {printable(message)}", file=sys.stderr)
    if as_json:
        emit(exit_code, error=message, **(extra or {}))
    return exit_code

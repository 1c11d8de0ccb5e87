"""The sections as text for a terminal: stands alone, fits 100 columns, colour only where it is wanted."""

import os
import re
import sys
import textwrap
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from .format import cell, short, text
from .section import Column, Report, Section, Table, Tile

WIDTH = 100  # columns; wider lines are hard to read and to paste
NARROWEST = 40  # columns; in fewer no table says anything
ROWS = 12  # rows of a table; the report has them all
FIRST, NAME = 36, 16  # columns that the first column and other words keep before they fold
GAP = 2  # columns between columns
STYLES = {"good": "blue", "bad": "red", "plain": ""}


def console(*, error: bool = False, color: bool = True) -> Console:
    """A console on stdout (or stderr), at most WIDTH wide; `NO_COLOR` and `TERM=dumb` are honoured by rich.

    Off a terminal lines are WIDTH wide, or as `COLUMNS` says: a pipe or a file has no width of its own.
    """
    stream = sys.stderr if error else sys.stdout
    found = Console(
        file=stream, no_color=None if color else True, highlight=False, markup=False, emoji=False, soft_wrap=False
    )
    asked = found.is_terminal or os.environ.get("COLUMNS", "").isdecimal()
    found.width = max(NARROWEST, min(WIDTH, found.width)) if asked else WIDTH
    return found


def show(report: Report, screen: Console, *, everything: bool = False) -> None:
    """Print the brief sections with their brief columns; with `everything` all sections."""
    facts = dict(report.facts)
    head = [
        facts["Trace"],
        *(
            f"{name.lower()} {facts[name]}"
            for name in ("Requests", "Span", "Evaluated", "Forecast", "Windows", "Analysed")
            if name in facts
        ),
    ]
    screen.print(Text(text(report.title), style="bold"))
    _wrapped(screen, text(" · ".join(head)), style="dim")
    for section in report.sections:
        if section.brief or everything:
            _section(section, screen, everything)


def show_sections(sections: Sequence[Section], screen: Console) -> None:
    """Print sections that stand without a report: every column and every row of theirs."""
    for section in sections:
        _section(section, screen, everything=True, limit=max((t.rows.height for t in section.tables), default=0))


def _section(section: Section, screen: Console, everything: bool, limit: int = ROWS) -> None:
    screen.print()
    screen.print(Text(section.title, style="bold cyan"))
    _wrapped(screen, section.finding if everything else fitting(section.finding))
    if section.tiles:
        screen.print()
        screen.print(Padding(_tiles(section.tiles), (0, 0, 0, 2), expand=False))
    for table in section.tables:
        columns = _columns(table, everything)
        if columns:
            screen.print()
            show_table(table, screen, columns, limit, whole=everything)
    if section.code and everything:
        screen.print(Text("  " + section.code), soft_wrap=True)
    if section.notes:
        screen.print()
    for note in section.notes:
        _wrapped(screen, note if everything else fitting(note), bullet="- ", style="dim")


def _wrapped(screen: Console, sentence: str, *, bullet: str = "", style: str = "") -> None:
    """Two columns in, and further under a bullet; no trailing blanks, so that output pastes well."""
    lines = textwrap.wrap(
        sentence,
        screen.width - 2,
        initial_indent=f"  {bullet}",
        subsequent_indent="  " + " " * len(bullet),
        break_on_hyphens=False,  # names of models and regions have them, and are searched for
    )
    for line in lines:
        screen.print(Text(line, style=style), soft_wrap=True)


def _columns(table: Table, everything: bool) -> tuple[Column, ...]:
    brief = tuple(c for c in table.columns if c.brief)
    return brief or (table.columns if everything else ())


def fitting(words: str) -> str:
    """`words`, the middle of any that is longer than a line left out: names come from users' traces."""
    return re.sub(rf"\S{{{WIDTH},}}", lambda found: short(found[0]), words)


def show_table(
    table: Table,
    screen: Console,
    columns: tuple[Column, ...] | None = None,
    limit: int = ROWS,
    *,
    whole: bool = True,
) -> None:
    """One table: numbers right-aligned and whole, words folded, columns that do not fit named instead.

    whole: words longer than a line, too.
    """
    columns, write = columns or table.columns, cell if whole else lambda value, kind: fitting(cell(value, kind))
    rows = [[write(row[c.name], c.kind) for c in columns] for row in table.rows.head(limit).iter_rows(named=True)]
    natural = [max(map(len, (c.label, *(row[i] for row in rows)))) for i, c in enumerate(columns)]
    least = [
        n if c.kind != "text" else min(n, NAME if i else FIRST)
        for i, (c, n) in enumerate(zip(columns, natural, strict=True))
    ]
    fit = sum(total <= screen.width - 2 for total in accumulate(w + GAP for w in least))
    widths = _widened(least[:fit], natural, screen.width - 2)
    grid = Grid(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim", show_edge=False)
    for column, width in zip(columns[:fit], widths, strict=True):
        words = column.kind == "text"
        justify: Literal["left", "right"] = "left" if words else "right"
        grid.add_column(Text(column.label), justify=justify, overflow="fold", no_wrap=not words, width=width)
    for values, row in zip(rows, table.rows.head(limit).iter_rows(named=True), strict=True):
        grid.add_row(*(Text(v, style=_style(c, row[c.name])) for v, c in zip(values[:fit], columns, strict=False)))
    screen.print(Text(f"  {text(table.caption)}", style="dim"))
    screen.print(Padding(grid, (0, 0, 0, 2), expand=False))
    if table.rows.height > limit:
        screen.print(Text(f"  ... {table.rows.height - limit:,} more rows in the report", style="dim"))
    if fit < len(columns):
        _wrapped(screen, f"not shown: {'; '.join(text(c.label) for c in columns[fit:])}", style="dim")


def _widened(least: Sequence[int], natural: Sequence[int], width: int) -> list[int]:
    """What columns are wide: at least `least`, and from the first on what they would be as long as there is room.

    Given to rich as fixed: what it shrinks by itself it may shrink below what its neighbours need, and cuts the last.
    """
    room = width - sum(least) - GAP * len(least)
    widths = []
    for few, wanted in zip(least, natural, strict=False):
        more = min(wanted - few, max(room, 0))
        widths.append(few + more)
        room -= more
    return widths


def _style(column: Column, value: object) -> str:
    if column.kind not in ("verdict", "mark") or value is None:
        return ""
    return STYLES["good" if value else "bad"]


def _tiles(tiles: tuple[Tile, ...]) -> Grid:
    grid = Grid.grid(padding=(0, 3, 0, 0))
    grid.add_row(*(Text(t.label, style="dim") for t in tiles))
    grid.add_row(*(Text(t.value, style="bold") for t in tiles))
    grid.add_row(*(Text(t.delta, style=STYLES[t.tone]) for t in tiles))
    if any(t.interval for t in tiles):
        grid.add_row(*(Text(t.interval, style="dim") for t in tiles))
    grid.add_row(*(Text(t.baseline, style="dim") for t in tiles))
    return grid

"""A section: data and one sentence. The seam of everything that is said, in HTML, terminal and JSON alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

Kind = Literal["text", "count", "number", "share", "duration_s", "span_s", "usd", "change", "verdict", "mark"]
Tone = Literal["plain", "good", "bad"]

SHOWN_ROWS = 60  # a table longer than this is thinned on screen: printed reports must stay readable


@dataclass(frozen=True)
class Column:
    """One column of a table: its name in the data, its heading, and how a value of it is written."""

    name: str
    label: str
    kind: Kind = "text"
    brief: bool = False  # also shown in the terminal, which is 100 columns wide


@dataclass(frozen=True)
class Table:
    """Rows to show. `columns` fixes their order; the first one names the row."""

    caption: str
    rows: pl.DataFrame
    columns: tuple[Column, ...]
    source: str = ""  # the file of the run directory that holds every row, unrounded

    def shown(self) -> pl.DataFrame:
        """The rows on screen: all of them, or `SHOWN_ROWS` evenly spaced ones with both ends."""
        rows = self.rows.select(c.name for c in self.columns)
        if rows.height <= SHOWN_ROWS:
            return rows
        last = rows.height - 1
        return rows[[round(i * last / (SHOWN_ROWS - 1)) for i in range(SHOWN_ROWS)]]


@dataclass(frozen=True)
class Figure:
    """A Plotly figure as plain data, with the sentence that says what it shows and the numbers behind it.

    Colours may be tokens (`@ink`, `@muted`, ...; see `palette.TOKENS`) that follow the reader's theme.
    """

    spec: Mapping[str, Any]
    caption: str
    table: Table
    height: int = 360  # px


@dataclass(frozen=True)
class Tile:
    """A headline number: what it is, what it was, and how far apart; `tone` never goes by colour alone."""

    label: str
    value: str
    baseline: str = ""
    delta: str = ""
    interval: str = ""  # of the delta, by chance
    tone: Tone = "plain"


@dataclass(frozen=True)
class Section:
    """One finding with what supports it. `brief` sections are what the terminal prints without `-v`."""

    anchor: str
    title: str
    finding: str
    tiles: tuple[Tile, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    code: str = ""  # text to copy, such as a command
    brief: bool = False


@dataclass(frozen=True)
class Report:
    """Sections in reading order, under a title and the facts that identify what was measured."""

    kind: Literal["analyze", "evaluate", "forecast", "train", "predict", "calibrate", "compare"]
    title: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    badge: tuple[str, Tone] | None = None  # the verdict on the data
    label: str = ""  # who may read it, as the user put it


def table(caption: str, rows: pl.DataFrame, columns: Sequence[Column], source: str = "") -> Table:
    """A table of the `columns` that `rows` really has and of which at least one value is known."""
    known = tuple(c for c in columns if c.name in rows.columns and rows[c.name].null_count() < rows.height)
    return Table(caption, rows, known, source)

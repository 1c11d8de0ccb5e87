"""Sections as Markdown, for a pull request or a wiki: tables whole, names as text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .format import cell, text
from .section import Section, Table

_SPECIAL = re.compile(r"[\\`*\[<>|#~&@]|(?<!\w)_|_(?!\w)")


def markdown(sections: Sequence[Section]) -> str:
    """Headings, findings, every row and column of the tables, notes; figures have no place in it."""
    parts = []
    for section in sections:
        parts += [f"### {plain(section.title)}", plain(section.finding)]
        parts += [_table(table) for table in section.tables]
        parts += ["\n".join(f"- {plain(note)}" for note in section.notes)] if section.notes else []
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    right = ["---" if c.kind == "text" else "---:" for c in table.columns]
    lines = [[plain(c.label) for c in table.columns], right]
    lines += [
        [plain(cell(value, c.kind)) for value, c in zip(row, table.columns, strict=True)]
        for row in table.rows.select(c.name for c in table.columns).iter_rows()
    ]
    return "\n".join([f"**{plain(table.caption)}**", "", *(f"| {' | '.join(line)} |" for line in lines)])


def plain(said: object) -> str:
    """Text that Markdown shows as it is: policies' and traces' names may hold any sign, and must mention nobody."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", text(said))

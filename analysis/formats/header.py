"""The header of a CSV: its columns, what they are separated by, and the lines before it."""

import csv
import re
import shlex
from dataclasses import dataclass

from lmaas.analysis.errors import UserError

from .shown import shown

SEP = re.compile(r'"?sep=([,;\t|])"?', re.IGNORECASE)  # of spreadsheets, on a line of its own


@dataclass(frozen=True)
class Header:
    """`skipped`: lines up to the first row, the header among them."""

    columns: tuple[str, ...]
    delimiter: str
    skipped: int


def csv_header(name: str, text: str) -> Header:
    """Of a CSV that begins with `text`: lines that are blank, comments or `sep=;` may stand before it."""
    if "\n" not in text and "\r" in text.strip():
        how = f"tr '\\r' '\\n' < {shlex.quote(name)} > lines.csv"
        raise UserError(f"{name}: its lines end with CR alone; end them with LF: {how}")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    stated = SEP.fullmatch(lines[0].strip(" "))
    at = 1 if stated else 0
    while at < len(lines) and (not lines[at].strip() or (lines[at].startswith("#") and not _heads(lines, at))):
        at += 1
    if at == len(lines):
        at = 0  # nothing but comments: whoever looks for columns tells what is missing
    delimiter = stated[1] if stated else _delimiter(lines[at])
    return Header(_columns(name, lines[at], delimiter), delimiter, at + 1)


def _heads(lines: list[str], at: int) -> bool:
    """Whether this comment is the header itself: as many fields as the line below, which has a number."""
    below = lines[at + 1] if at + 1 < len(lines) else ""
    delimiter = _delimiter(lines[at])
    same = 0 < lines[at].count(delimiter) == below.count(delimiter)
    return same and not below.startswith("#") and any(part.strip()[:1].isdigit() for part in below.split(delimiter))


def _delimiter(header: str) -> str:
    return max(",;\t|", key=header.count)


def _columns(name: str, header: str, delimiter: str) -> tuple[str, ...]:
    try:
        fields = next(csv.reader([header], delimiter=delimiter, strict=True, skipinitialspace=True), [])
    except csv.Error as error:
        raise UserError(f"{name}: its first line is no CSV header ({error})") from None
    columns = [column.strip() or f"column_{i}" for i, column in enumerate(fields, start=1)]
    twice = next((column for i, column in enumerate(columns) if column in columns[:i]), None)
    if twice is not None:
        raise UserError(f"{name}: has two columns named {shown(twice)}; rename one")
    return tuple(columns)

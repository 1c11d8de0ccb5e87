"""A report as one JSON document: what `report.json` holds and what the HTML file carries inside it."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from .format import DIGITS, cell, significant, text
from .section import Figure, Report, Section, Table

SCHEMA_VERSION = "1.0"
EXACT = 12  # significant digits of a table's cell: a page rounds for itself


def document(report: Report) -> dict[str, Any]:
    """Everything the report says, and what its page is made of; long tables thinned as on screen."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": report.kind,
        "title": text(report.title),
        "facts": {name: text(value) for name, value in report.facts},
        "badge": list(report.badge) if report.badge else None,
        "label": text(report.label),
        "sections": [_section(section) for section in report.sections],
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        "anchor": section.anchor,
        "title": section.title,
        "finding": section.finding,
        "tiles": [asdict(tile) for tile in section.tiles],
        "tables": [_table(t) for t in section.tables],
        "figures": [_figure(f) for f in section.figures],
        "notes": list(section.notes),
        "code": section.code,
    }


def _table(table: Table) -> dict[str, Any]:
    rows = table.shown()
    return {
        "caption": table.caption,
        "columns": [asdict(c) for c in table.columns],
        "rows": [[_cell(v) for v in row] for row in rows.iter_rows()],
        "rows_total": table.rows.height,
        "source": table.source,
    }


def _cell(value: Any) -> Any:
    """As `plain`, and a number without end as it is shown."""
    return cell(value, "number") if isinstance(value, float) and math.isinf(value) else plain(value, EXACT)


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "caption": figure.caption,
        "spec": figure_data(figure.spec),
        "height": figure.height,
        "table": _table(figure.table),
    }


def figure_data(spec: Any) -> dict[str, Any]:
    """A figure as plain data; a `plotly` Figure (of a section from outside) is taken at its word."""
    whole = spec if isinstance(spec, Mapping) else json.loads(spec.to_json())
    data = {name: whole[name] for name in ("data", "layout") if name in whole}
    # plotly.py adds a 6.5 KB template to each figure; ours are drawn without
    data["layout"] = {name: value for name, value in data.get("layout", {}).items() if name != "template"}
    return data


def plain(value: Any, digits: int = DIGITS) -> Any:
    """`value` as JSON can hold it: unknown and not-a-number are null, times ISO 8601, floats to so many digits."""
    match value:
        case None | bool() | int():
            return value
        case float():
            rounded = significant(value, digits)
            return rounded if math.isfinite(rounded) else None
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case pl.Series() | list() | tuple():
            return [plain(v, digits) for v in value]
        case dict():
            return {text(k): plain(v, digits) for k, v in value.items()}
    return text(value)


def dumps(value: Any) -> str:
    """Compact JSON without NaN, for a file."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def for_script(value: Any) -> str:
    """JSON that is safe inside `<script>`: no sign in it can end the element or start a comment."""
    escaped: dict[str, str | int | None] = {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
    return dumps(value).translate(str.maketrans(escaped))

"""Two runs side by side, as `lmaas compare` says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.analysis.rundir import plain

from .evaluate.differences import OVERALL, bounds, label, none, signed, written
from .format import MISSING, change, duration, many, number, text
from .section import Column, Section, table

if TYPE_CHECKING:
    from lmaas.policies.compare_runs import RunsCompared

Row = dict[str, Any]
COLUMNS = (
    Column("metric", "Score"),
    Column("before", "Before"),
    Column("after", "After"),
    Column("difference", "Difference"),
    Column("interval", "90 % interval"),
    Column("verdict", "Verdict"),
)
CONDITIONS = (
    Column("condition", "Fails if"),
    Column("policy", "Policy"),
    Column("change", "Change"),
    Column("passed", "Result", "verdict"),
)


def runs_compared(found: RunsCompared) -> tuple[Section, ...]:
    """Conditions first, where there are any; then every score of every policy of which one differs."""
    differ, alike = _by_policy(found.rows)
    said = Section(
        "compare",
        f"{text(found.after)} against {text(found.before)}, on {text(found.trace)}",
        _finding(found),
        tables=tuple(
            table(text(name), pl.DataFrame([_row(row) for row in rows.iter_rows(named=True)]), COLUMNS)
            for name, rows in differ.items()
        ),
        notes=tuple(map(text, (*found.notes, *_alike(alike)))),
    )
    return (_conditions(found), said) if found.conditions.height else (said,)


def comparison_facts(found: RunsCompared) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "before": found.before,
        "after": found.after,
        "paired": found.paired,
        "differ": list(found.differ),
        "differences": [plain(row) for row in found.rows.iter_rows(named=True)],
        "conditions": [plain(row) for row in found.conditions.iter_rows(named=True)],
        "notes": list(found.notes),
    }


def _by_policy(rows: pl.DataFrame) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """(the rows of policies of which a score differs, names of the others)."""
    by = {str(name): of for (name,), of in rows.group_by("policy", maintain_order=True)}
    differ = {name: of for name, of in by.items() if (of["difference"] != 0).any()}
    return differ, [name for name in by if name not in differ]


def _alike(names: list[str]) -> list[str]:
    return [f"every score the same in both: {', '.join(names)}"] if names else []


def _finding(found: RunsCompared) -> str:
    if not found.paired:
        return f"Not comparable, so nothing is judged: {' and '.join(found.differ)} differ."
    differ, _ = _by_policy(found.rows)
    if not differ:
        return "Every score of every policy is the same in both."
    overall = {name: of.filter(pl.col("metric") == OVERALL)["verdict"].first() for name, of in differ.items()}
    if not any(overall.values()):
        return "Differences are stated, and none is judged."
    said = []
    for word in ("better", "no difference", "worse"):
        names = [text(name) for name, verdict in overall.items() if verdict == word]
        if names:
            said.append(f"{', '.join(names)} {'no different' if word == 'no difference' else word}")
    return f"Beyond chance, all in all: {'; '.join(said)}."


def _row(row: Row) -> Row:
    if row["metric"] == OVERALL:
        shown = dict.fromkeys(("before", "after", "difference", "interval"), "")
        return {"metric": "all in all", **shown, "verdict": row["verdict"] or MISSING}
    after, before = written(row)
    return {
        "metric": label(row["metric"]),
        "before": before,
        "after": after,
        "difference": signed(row["difference"], row),
        "interval": bounds(row) or none(row),
        "verdict": row["verdict"] or MISSING,
    }


def _conditions(found: RunsCompared) -> Section:
    failed = found.conditions.filter(~pl.col("passed"))
    finding = f"None of {many(found.conditions.height, 'condition')} fails."
    if failed.height:
        first = failed.row(0, named=True)
        of = f"{failed.height} of {many(found.conditions.height, 'condition')}"
        finding = f"{of} failed, first of all {text(first['condition'])} for {text(first['policy'])}."
    rows = [
        {"condition": row["condition"], "policy": row["policy"], "change": _change(row), "passed": row["passed"]}
        for row in found.conditions.iter_rows(named=True)
    ]
    return Section("conditions", "Conditions", finding, tables=(table("--fail-if", pl.DataFrame(rows), CONDITIONS),))


def _change(row: Row) -> str:
    """In the unit that the condition is written in."""
    text_of, value = row["condition"].partition(" @ ")[0], row["value"]
    if text_of.endswith("worse"):
        return row["verdict"] or MISSING
    if value is None:
        return MISSING
    if text_of.endswith("%"):
        return change(value)
    sign = "−" if value < 0 else "+"
    if text_of.endswith("pp"):
        return f"{sign}{number(100 * abs(value))} points"
    return f"{sign}{duration(abs(value)) if text_of[-1:].isalpha() else number(abs(value))}"

"""What a calibration found: how far the replay is off, what the log told of its engine, and what it could not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from .document import plain
from .format import many, number, percent, text
from .section import Column, Section, Table

if TYPE_CHECKING:
    from lmaas.replay.calibration.calibrate import Calibration
    from lmaas.replay.calibration.engine import Inferred

WORDS = {
    "replicas": "replicas",
    "max_seqs": "requests at once (max_seqs)",
    "max_batch_tokens": "tokens an iteration (max_batch_tokens)",
    "kv_tokens": "KV tokens (kv_tokens)",
}


def calibration_facts(found: Calibration) -> dict[str, Any]:
    """What `--json` prints: profile, engine, errors of both parts, counts, notes."""
    return {
        "profile": found.profile.model_dump(mode="json"),
        "engine": [
            {"name": p.name, "value": p.value, "how": p.how, "alike": list(p.alike), "about": p.about}
            for p in found.engine
        ],
        "fitted": _plain(found.fitted),
        "held_out": _plain(found.held_out),
        "requests": {"fitted": found.fitted_n, "held_out": found.tested_n, "aside": dict(found.aside)},
        "replays": found.replays,
        "notes": list(found.notes),
    }


def _plain(rows: pl.DataFrame) -> list[dict[str, Any]]:
    return [{name: plain(value) for name, value in row.items()} for row in rows.iter_rows(named=True)]


def calibration_told(found: Calibration) -> tuple[Section, ...]:
    """The errors first, then the engine; notes say what to mind."""
    held = {row["metric"]: row for row in found.held_out.iter_rows(named=True)}
    worst = max((abs(row[e]), m, e[:3]) for m, row in held.items() for e in ("p50_error", "p95_error") if row["n"])
    finding = (
        f"On {many(found.tested_n, 'request')} that the fit has not seen, the replay is off by at most "
        f"{percent(worst[0])} ({worst[1].upper()} {worst[2]}) at p50 and p95 of TTFT, TPOT and E2E."
    )
    errors = Section("errors", "How far off", finding, tables=(_errors(found),), notes=_notes(found))
    return errors, _engine(found)


def _errors(found: Calibration) -> Table:
    parts = ((f"fitted ({found.fitted_n:,})", found.fitted), (f"held out ({found.tested_n:,})", found.held_out))
    rows = pl.concat([part.with_columns(part=pl.lit(name)) for name, part in parts])
    columns = (
        Column("part", "Requests"),
        Column("metric", "Metric"),
        Column("observed_p50_s", "Observed p50", "duration_s"),
        Column("p50_error", "Replay", "change"),
        Column("observed_p95_s", "Observed p95", "duration_s"),
        Column("p95_error", "Replay", "change"),
        Column("median_error", "Median of requests' errors", "share"),
    )
    return Table("Observed and replayed latencies", rows.with_columns(pl.col("metric").str.to_uppercase()), columns)


def _engine(found: Calibration) -> Section:
    rows = pl.DataFrame(
        [{"name": WORDS[p.name], "value": f"{p.value:,}", "how": p.how, "about": text(_alike(p))} for p in found.engine]
    )
    unknown = [p.name for p in found.engine if p.how == "not identifiable"]
    finding = "Every parameter was given or follows from the log."
    if unknown:
        finding = (
            f"Not identifiable from this log: {', '.join(unknown)}. Other values explain it as well, so do not rely on "
            "predictions that depend on them; give them if you know them."
        )
    columns = (Column("name", "Parameter"), Column("value", "Value"), Column("how", "How"), Column("about", "As well"))
    return Section("engine", "The engine", finding, tables=(Table("Engine parameters", rows, columns),))


def _alike(p: Inferred) -> str:
    others = [f"{v:,}" for v in p.alike if v != p.value]
    told = [", ".join(others)] if others else []
    return "; ".join([*told, *([p.about] if p.about else [])])


def _notes(found: Calibration) -> tuple[str, ...]:
    aside = [f"{n:,} {text(why)}" for why, n in found.aside]
    lost = int(found.held_out["not_completed"].sum())
    return (
        *([f"left out, not replayed: {', '.join(aside)}"] if aside else []),
        *map(text, found.notes),
        *([f"{lost:,} held-out latencies are of requests that the replay rejects: give --kv-tokens"] if lost else []),
        f"{number(found.replays)} replays; latencies of the held-out part were not looked at before the profile stood.",
    )

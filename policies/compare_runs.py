"""Two runs of `lmaas evaluate`, side by side: what changed, and whether chance alone could have done it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.formats.source import shown
from lmaas.analysis.stored import StoredRun

from .blocks import Blocks
from .changes import CONDITIONS, check_groups, judged, parse_conditions
from .differences import DIFFERENCES, OVERALL, pair, without_single
from .paired import Draws

SAME = {"cut_s": "the evaluated part", "end_s": "the evaluated part", "load": "the load", "fidelity": "the fidelity"}
TOLD = ("attain", "window_s", "seed", "start_s", "train_fraction", "depth", "lmaas_version")
TOLD_WHOLE = {"slos": "SLOs", "pools": "pools", "fleet": "fleet", "prefix_cache": "prefix caches"}
BY_SLO = ("slo_attainment", "goodput_rps", "goodput_tok_s", OVERALL)


@dataclass(frozen=True)
class RunsCompared:
    """What `compare` finds. rows: differences.DIFFERENCES, value after, reference before; conditions: CONDITIONS.

    differ: what keeps them from having replayed the same requests; with it, and where a note says so, differences have
    no verdict.
    """

    before: str
    after: str
    trace: str
    differ: tuple[str, ...]
    rows: pl.DataFrame
    conditions: pl.DataFrame
    notes: tuple[str, ...]

    @property
    def paired(self) -> bool:
        """Both replayed the same requests."""
        return not self.differ

    @property
    def exit_code(self) -> int:
        """0, or 3 where a condition failed."""
        return Exit.OK if self.conditions["passed"].all() else Exit.GATE


def compare(before: StoredRun, after: StoredRun, fail_if: Sequence[str] = ()) -> RunsCompared:
    """Every policy of both runs, after against before, with 90 % intervals where both replayed the same requests.

    fail_if: conditions on the change (changes.parse_conditions), of the policies that were asked for. UserError: 2 for
    a wrong condition, one that cannot be judged, and runs of another verb; 4 for runs that did not end.
    """
    conditions = parse_conditions(fail_if)
    old, new = (_metrics(run) for run in (before, after))
    why = _not_the_same(old, new)
    if why and conditions:
        raise UserError(f"--fail-if cannot be judged: {' and '.join(why)} of the two runs differ", Exit.USAGE)
    pairs, alone = _pairs(old["results"], new["results"])
    if not pairs:
        raise UserError(f"{before.name} and {after.name} have no policy in common", Exit.USAGE)
    drawn: tuple[dict[str, Draws], dict[str, Draws]] = ({}, {})
    cannot = "they did not replay the same requests" if why else ""
    if not why:
        drawn, cannot = _draws(before, after, old, new)
    rows = []
    for label, was, now in pairs:
        names = {"policy": label, "relation": "run", "against": before.name}
        draws = drawn[1].get(now["policy"]), drawn[0].get(was["policy"])
        rows += pair(names, now, was, *draws, max(old["settings"]["attain"], new["settings"]["attain"]))
    table = pl.DataFrame(rows, schema=DIFFERENCES, orient="row")
    if cannot:
        table = table.with_columns(why=pl.when(pl.col("metric") != OVERALL).then(pl.lit(cannot)))
    slos_alike = old["settings"].get("slos") == new["settings"].get("slos")
    if not slos_alike:
        by_slo = pl.col("metric").str.extract("^([^ ]*)").is_in(BY_SLO)
        table = table.with_columns(
            *(pl.when(~by_slo).then(name).alias(name) for name in ("low", "high", "verdict")),
            why=pl.when(by_slo & (pl.col("metric") != OVERALL)).then(pl.lit("the SLOs differ")).otherwise("why"),
        )
    if not slos_alike and any(c.metric.partition(" @ ")[0] in BY_SLO for c in conditions):
        raise UserError("--fail-if cannot judge attainment or goodput: the SLOs of the two runs differ", Exit.USAGE)
    asked = [(label, was, now) for label, was, now in pairs if now["role"] == "policy"]
    if conditions and not asked:
        raise UserError("--fail-if has nothing to judge: no policy was asked for in both runs", Exit.USAGE)
    check_groups(conditions, table)
    found = [row for condition in conditions for one in asked for row in judged(condition, *one, table)]
    return RunsCompared(
        before.name,
        after.name,
        _traces((after, new), (before, old)),
        tuple(why),
        without_single(table),
        pl.DataFrame(found, schema=CONDITIONS, orient="row"),
        (*_notes(before, after, old, new), *alone, *([f"no intervals: {cannot}"] if cannot and not why else [])),
    )


def _metrics(run: StoredRun) -> dict[str, Any]:
    if run.verb != "evaluate":
        other = "; two traces: lmaas analyze --compare" if run.verb == "analyze" else ""
        raise UserError(f"{run.name} is a run of {shown(run.verb)}; compare takes two of evaluate{other}", Exit.USAGE)
    found = run.read("metrics.json")
    if not {"results", "settings", "trace"} <= found.keys():
        raise UserError(f"{run.path}/metrics.json holds no evaluation")
    return found


def _not_the_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What keeps two runs from having replayed the same requests."""
    differs = [] if old["trace"]["trace_id"] == new["trace"]["trace_id"] else ["the traces"]
    settings = old["settings"], new["settings"]
    differs += [said for key, said in SAME.items() if settings[0].get(key) != settings[1].get(key)]
    if settings[0].get("load") != 1 and settings[0].get("seed") != settings[1].get("seed"):
        differs.append("the seeds by which the load is drawn")
    return list(dict.fromkeys(differs))


def _traces(*runs: tuple[StoredRun, Mapping[str, Any]]) -> str:
    """The trace of both, or of each."""
    ids = [of["trace"]["trace_id"][:12] for _, of in runs]
    names = [str((run.manifest.get("input") or {}).get("name") or one) for (run, _), one in zip(runs, ids, strict=True)]
    if ids[0] == ids[1]:
        return names[0]
    return " and ".join(f"{name} ({one})" for name, one in zip(names, ids, strict=True))


Scores = Mapping[str, Any]


def _pairs(old: Sequence[Scores], new: Sequence[Scores]) -> tuple[list[tuple[str, Scores, Scores]], list[str]]:
    """(label, before, after) by name, the one policy asked for in each run under its two names; and who is alone."""
    was, now = ({row["policy"]: row for row in rows} for rows in (old, new))
    pairs = [(name, was[name], row) for name, row in now.items() if name in was]
    asked = [[row for row in rows if row["role"] == "policy"] for rows in (old, new)]
    if all(len(rows) == 1 for rows in asked) and asked[0][0]["policy"] != asked[1][0]["policy"]:
        (one,), (other,) = asked
        names = one["policy"], other["policy"]
        pairs = [(f"{names[0]} → {names[1]}", one, other), *(p for p in pairs if p[0] not in names)]
        was, now = ({k: v for k, v in rows.items() if k not in names} for rows in (was, now))
    sides = ("before", was, now), ("after", now, was)
    left = [(side, [name for name in rows if name not in others]) for side, rows, others in sides]
    return pairs, [f"only {side}: {', '.join(names)}" for side, names in left if names]


def _draws(
    before: StoredRun, after: StoredRun, old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[tuple[dict[str, Draws], dict[str, Draws]], str]:
    """(before's and after's draws by policy, why there are none)."""
    made = [of["settings"].get("intervals") or {} for of in (old, new)]
    if any("why" in one for one in made):
        return ({}, {}), next(one["why"] for one in made if "why" in one)
    if any(made[0].get(key) != made[1].get(key) for key in ("blocks", "block_s")):
        return ({}, {}), "their blocks of time differ, as their windows do"
    found = []
    for run in (before, after):
        rows = run.table("blocks")
        if rows is None:
            return ({}, {}), f"{run.name} keeps no blocks of time"
        try:
            by = {str(name): Blocks.read(of) for (name,), of in rows.group_by("policy", maintain_order=True)}
        except (ValueError, IndexError, KeyError, pl.exceptions.PolarsError):
            raise UserError(f"{run.path}/blocks.parquet is damaged") from None
        found.append({name: Draws.of(blocks, old["settings"].get("seed", 0)) for name, blocks in by.items()})
    return (found[0], found[1]), ""


def _notes(before: StoredRun, after: StoredRun, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    notes = []
    versions = [{"lmaas_version": run.manifest.get("lmaas_version")} for run in (before, after)]
    was, now = versions[0] | old["settings"], versions[1] | new["settings"]
    for key in TOLD:
        if was.get(key) != now.get(key):
            notes.append(f"differs: {key} {was.get(key)} before, {now.get(key)} after")
    notes += [f"differs: {said}" for key, said in TOLD_WHOLE.items() if was.get(key) != now.get(key)]
    if was.get("slos") != now.get("slos"):
        notes.append("attainment and goodput are by other SLOs, so they are not judged")
    for run, of in ((before, old), (after, new)):
        notes += [f"{run.name}: {name} failed: {reason}" for name, reason in (of.get("failures") or {}).items()]
    return notes

"""A report that can be shared: names of tenants, sessions and requests replaced by labels, everywhere in it.

tenant-1 is the tenant with most requests; sessions and requests are numbered as they are met. Everything is replaced
that is text: sentences, cells, figures, the command. A name counts where no letter or digit adjoins it, also cut short
or as part of a file's or run's name; so a tenant called like a word of the report is replaced there, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import polars as pl

from lmaas.analysis.errors import UserError
from lmaas.analysis.rundir import slug
from lmaas.analysis.stored import StoredRun
from lmaas.analysis.trace import Trace
from lmaas.analysis.workspace import Workspace

from .format import text

IDS = {"session_id": "session", "request_id": "request", "parent_id": "request"}
CUT = "…"
LEAST_CUT = 12  # signs of a name that was cut short, by which it is known
# what is never a name: keys of ours and of Plotly whose values are words of a format, not text
FORM = frozenset(
    (
        "anchor", "badge", "bgcolor", "color", "colorscale", "dash", "font", "hovermode", "kind", "legend", "line",
        "mode", "orientation", "paper_bgcolor", "plot_bgcolor", "schema_version", "side", "symbol", "tone", "type",
        "xanchor", "xaxis", "xref", "yanchor", "yaxis", "yref",
    )
)  # fmt: skip
# what Plotly fills in, in its templates: elsewhere, or with another word, it is part of a name
_FORMATTED = re.compile(r"(%\{(?:x|y|z|text|label|value|percent|customdata)(?:[:|[.][^}]*)?\})")
TEMPLATES = ("hovertemplate", "texttemplate")
Content = dict[str, Any]


def redacted(documents: Sequence[Content], runs: Sequence[StoredRun], workspace: Workspace) -> list[Content]:
    """The documents with labels for the names in the runs' traces; UserError (exit 4) where a trace is not there."""
    ids = dict.fromkeys(i for run in runs for i in _trace_ids(run.read("metrics.json")))
    traces = []
    for trace_id in ids:
        trace = workspace.find(trace_id)
        if trace is None:
            told = (
                f"trace {trace_id[:12]} is not in the workspace, so its tenants' names are not known; ingest it again"
            )
            raise UserError(f"--redact tenants: {told}")
        traces.append(trace)
    said = "\n".join(s for d in documents for s in _texts(d))
    replace = replacing(_labels(traces, said), said)
    return [_walked(document, replace) for document in documents]


def _trace_ids(value: Any) -> Iterator[str]:
    """Every trace that the metrics name: also what it was compared with, or trained on."""
    if isinstance(value, Mapping):
        if isinstance(value.get("trace_id"), str):
            yield value["trace_id"]
        for item in value.values():
            yield from _trace_ids(item)


def _labels(traces: Sequence[Trace], said: str) -> dict[str, str]:
    """Name -> label of all tenants, and of the sessions and requests that are mentioned in `said`."""
    counts = [
        trace.scan().group_by(name=pl.col("tenant").cast(pl.String)).agg(n=pl.len()).collect() for trace in traces
    ]
    tenants = pl.concat(counts).drop_nulls("name").filter(pl.col("name") != "").group_by("name").agg(pl.col("n").sum())
    names = tenants.sort("n", "name", descending=[True, False])["name"]
    labels = {name: f"tenant-{k}" for k, name in enumerate(names, start=1)}
    for column, kind in IDS.items():
        for name in _mentioned(traces, column, said):
            if name not in labels:
                labels[name] = f"{kind}-{sum(label.startswith(kind) for label in labels.values()) + 1}"
    return labels


def _mentioned(traces: Sequence[Trace], column: str, said: str) -> list[str]:
    """Ids that occur in `said`, in its order; row numbers, which stand for ids that a source has not, are none."""
    row = pl.col("source_row").cast(pl.String)
    parts = [trace.scan().filter(pl.col(column).ne_missing(row)).select(column).unique().collect() for trace in traces]
    return _found(pl.concat(parts).to_series().drop_nulls().to_list(), said)


def _found(names: Sequence[str], said: str) -> list[str]:
    """Which of the names occur in `said` at all, once each: in one pass, however many they are."""
    names = [name for name in names if name]
    return list(dict.fromkeys(pl.Series([said]).str.extract_many(names, overlapping=True)[0])) if names else []


class Replace(Protocol):
    """Text -> text with labels for names; template: Plotly's, whose variables stay."""

    def __call__(self, text: str, template: bool = False) -> str:
        """The text without names."""


def replacing(labels: Mapping[str, str], said: str) -> Replace:
    """What replaces the names in parts of `said`, the longer name first."""
    forms = {form: label for name, label in labels.items() for form in _forms(name)}
    whole = sorted(_found(list(forms), said), key=lambda form: (-len(form), form))
    begun = set(_found([form[:LEAST_CUT] for form in forms if len(form) > LEAST_CUT], said)) if CUT in said else set()
    cut = {form: forms[form] for form in sorted(forms) if form[:LEAST_CUT] in begun}
    names = re.compile("|".join(_pattern(form, forms[form]) for form in whole) or r"(?!)")

    def plainly(part: str) -> str:
        if CUT in part:
            *ended, rest = part.split(CUT)
            part = CUT.join([*(_uncut(piece, cut) for piece in ended), rest])
        return names.sub(lambda match: forms[match[0]], part)

    def replace(text: str, template: bool = False) -> str:
        parts = _FORMATTED.split(text) if template else [text]
        return "".join(part if k % 2 else plainly(part) for k, part in enumerate(parts))

    return replace


def _uncut(piece: str, names: Mapping[str, str]) -> str:
    """What stands before an ellipsis, with a label where the beginning of a name ends it."""
    for name, label in names.items():
        for length in range(min(len(name), len(piece)), LEAST_CUT - 1, -1):
            if piece.endswith(name[:length]):
                return piece[:-length] + label
    return piece


def _forms(name: str) -> set[str]:
    """How a name may be written: as it is, cleaned of controls, for Plotly, in SQL, in a shell, in a file's name."""
    forms = {name, text(name)}
    forms |= {f.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for f in forms}
    forms |= {f.replace("'", "''") for f in forms}
    forms |= {f.replace("'", "'\"'\"'") for f in forms}
    return forms | ({slug(name)} - {"run"} if len(name) > 2 else set())


def _pattern(form: str, label: str) -> str:
    """Where no letter or digit adjoins; a number is no tenant within a larger one, a date or a time, and no id bare."""
    before = r"(?<![^\W_])" if form[0].isalnum() else ""
    after = r"(?![^\W_])" if form[-1].isalnum() else ""
    if form.isdecimal():
        tenant = label.startswith("tenant")
        before, after = (r"(?<![\w.,:%-])", r"(?!\w|[.,:-]\d)") if tenant else ("(?<=['\"])", "(?=['\"])")
    return before + re.escape(form) + after


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _walked(value: Any, replace: Replace, cells: bool = False, template: bool = False) -> Any:
    """`value` with every text of it replaced, but words of a format; in cells keys count as text, too."""
    if isinstance(value, str):
        return replace(value, template)
    if isinstance(value, list):
        return [_walked(item, replace, cells, template) for item in value]
    if not isinstance(value, Mapping):
        return value
    if cells:
        return {replace(key): _walked(item, replace, cells) for key, item in value.items()}
    return {
        key: item
        if key in FORM and not isinstance(item, Mapping)
        else _walked(item, replace, key == "rows", key in TEMPLATES)
        for key, item in value.items()
    }

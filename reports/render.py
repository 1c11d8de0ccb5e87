"""Reports of stored runs, rendered again: one run's is the same bytes as when it was written; of several, one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from lmaas.analysis.disk import environment_errors, write_atomically
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.stored import StoredRun
from lmaas.analysis.workspace import Workspace

from .document import dumps
from .format import many
from .html import page
from .redact import redacted

Content = dict[str, Any]
TENANTS = "tenants"


def render(runs: Sequence[StoredRun], workspace: Workspace, redact: str | None = None) -> Content:
    """The document of the runs' reports, several as one; redact `tenants`: with labels for names (redact.redacted).

    UserError: 2 for nothing to render or redact; 4 for a run without a report, or whose trace is not there to redact.
    """
    if not runs:
        raise UserError("name a run: `lmaas runs list` shows them", Exit.USAGE)
    if redact not in (None, TENANTS):
        raise UserError(f"--redact {redact}: there is {TENANTS}, which covers sessions and requests, too", Exit.USAGE)
    documents = [_document(run) for run in runs]
    if redact:
        documents = redacted(documents, runs, workspace)
    return documents[0] if len(documents) == 1 else _joined(documents)


def _document(run: StoredRun) -> Content:
    found = run.read("report.json")
    if not {"kind", "title", "facts", "badge", "sections"} <= found.keys():
        raise UserError(f"{run.path}/report.json is no report")
    return found


def _joined(documents: Sequence[Content]) -> Content:
    """Sections of all, each run's under its title, anchors and titles told apart by its number."""
    sections: list[Content] = []
    for k, document in enumerate(documents, start=1):
        facts = [f"{name}: {said}" for name, said in document["facts"].items()]
        empty: Content = {"tiles": [], "tables": [], "figures": [], "code": ""}
        begins = {"anchor": f"run{k}", "title": f"Run {k}", "finding": document["title"], "notes": facts}
        own = [s | {"anchor": f"run{k}-{s['anchor']}", "title": f"{k} · {s['title']}"} for s in document["sections"]]
        sections += [empty | begins, *own]
    names = list(dict.fromkeys(document["title"] for document in documents))
    title = names[0] if len(names) == 1 else f"{names[0]}, and {many(len(documents) - 1, 'other report')}"
    kinds = {document["kind"] for document in documents}
    return {
        "schema_version": documents[0]["schema_version"],
        "kind": kinds.pop() if len(kinds) == 1 else "several",
        "title": title,
        "facts": {"Runs": str(len(documents))},
        "badge": None,
        "label": ", ".join(dict.fromkeys(document["label"] for document in documents if document.get("label"))),
        "sections": sections,
    }


def write_rendered(content: Mapping[str, Any], out: Path, *, overwrite: bool = False) -> Path:
    """The page, or for a name that ends in .json the document, whole or not at all; UserError (exit 2, 4, 8)."""
    if out.suffix not in (".html", ".json"):
        raise UserError(f"-o {out}: cannot write '{out.suffix}'; use .html, or .json for the document", Exit.USAGE)
    if not out.parent.is_dir() or out.is_dir():
        what = "is a folder" if out.is_dir() else f"there is no folder {out.parent}"
        raise UserError(f"-o {out}: {what}; name a file", Exit.USAGE)
    if out.exists() and not overwrite:
        raise UserError(f"-o {out}: is there already; name another file, or add --overwrite", Exit.USAGE)
    try:
        written = dumps(content) if out.suffix == ".json" else page(content)
    except (TemplateError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f"a report.json is damaged ({type(error).__name__}: {error})") from None
    with environment_errors(out, out=True):
        return write_atomically(out, written.encode(errors="replace"))

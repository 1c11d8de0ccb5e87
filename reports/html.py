"""One self-contained HTML file: opens offline, sends nothing, prints well."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .document import document, for_script
from .format import cell
from .palette import TOKENS
from .section import Report

# Plotly 7 can upload a figure to its makers' cloud by one click; the policy below forbids it a second time
CONFIG = {
    "showSendToCloud": False,
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
}
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "form-action 'none'; base-uri 'none'"
)
PARTS = files("lmaas.reports")


def html(report: Report) -> str:
    """The page of a report."""
    return page(document(report))


def page(content: Mapping[str, Any]) -> str:
    """The page of a report's document, and of that alone: a stored report.json gives the same bytes again.

    Text is escaped by the template; JSON and the bundle are the only markup put in as is.
    """
    drawn = any(section["figures"] for section in content["sections"])
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=content,
            policy=POLICY,
            style=Markup(_asset("templates/report.css")),
            script=Markup(_asset("templates/report.js")),
            plotly=Markup(_asset("assets/plotly-cartesian.min.js")) if drawn else "",
            data=Markup(for_script({"config": CONFIG, "tokens": TOKENS, "report": content})),
        )
    )


def fragment(report: Report) -> str:
    """What the terminal would show, for a notebook's cell: escaped, without scripts, styles or figures."""
    cells = _environment().get_template("notebook.html.j2")
    return cells.render(report=report, sections=[section for section in report.sections if section.brief])


@cache
def _asset(name: str) -> str:
    """A file of ours to inline; nothing in it may end its element early."""
    content = (PARTS / name).read_text(encoding="utf-8")
    if "</script" in content.lower() or "</style" in content.lower():
        raise ValueError(f"{name} would end its element")
    return content


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lmaas.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    return environment

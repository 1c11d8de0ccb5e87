"""Stored runs' reports again: the same bytes, several as one page, and without names."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
from evaluation_data import GATES, evaluation

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.quality import Quality
from lmaas.analysis.stored import find_run
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main
from lmaas.reports.redact import _texts, replacing
from lmaas.reports.render import render, write_rendered
from lmaas.reports.report import evaluation_report
from lmaas.reports.write import recording, write_evaluation

LONG = "Consolidated Widgets of the Northern Hemisphere (Holdings) GmbH & Co. KG"
TENANTS = ("Acme", "o'brien", "<i>x</i>", LONG, 't=7, "q"', "Øre")
HOSTILE = (  # names that look like what a report is written in
    "%{customer}", "a.*b(c", "tenant-2", "Northwind… Traders", "  padded name  ", "\u202eevil corp",
    "Cafe\u0301 Müller", "C:\\temp\\new", "$(rm -rf x)", "line\nbroken", "L" * 200, "\U0001f600 Smile Inc",
    "<b>bold</b> & sons", "-dashed ltd",
)  # fmt: skip


@pytest.fixture
def analysed(home: Path, tmp_path: Path):
    """A stored analysis by tenant, of a log whose name has one in it; the run."""
    n = 600
    rows = {
        "arrival_s": [float(i) for i in range(n)],
        "input_tokens": [100 + i % 7 for i in range(n)],
        "output_tokens": [10] * n,
        "tenant": [TENANTS[min(i % 11, 5)] for i in range(n)],
        "session_id": [f"sess-{i // 3}" for i in range(n)],
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "acme_log.parquet")
    where = "tenant <> 'o''nobody' and session_id <> 'sess-1' and tenant <> 'o''brien'"
    line = ["analyze", str(tmp_path / "acme_log.parquet"), "--by", "tenant", "--where", where, "-q"]
    assert main(line) == 0
    return find_run("last", Workspace(home))


def embedded(page: Path):
    """The document that a page carries."""
    (found,) = re.findall(r'id="report-data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(found)["report"]


def stored(home: Path, label: str = "preserve", **changes: object):
    workspace = Workspace(home)
    with recording(workspace, "evaluate", label, ["evaluate"], {}, None) as run:
        written = write_evaluation(evaluation(**changes), run)  # type: ignore[arg-type]
    return find_run(str(written.run), workspace)


def test_a_report_is_the_same_bytes_again(home: Path, analysed, tmp_path: Path, capsys):
    for k, run in enumerate((analysed, stored(home, gates=GATES))):
        out = tmp_path / f"again{k}.html"
        assert main(["report", run.name, "-o", str(out)]) == 0
        assert out.read_bytes() == (run.path / "report.html").read_bytes()
    assert main(["report", analysed.name, "-o", str(tmp_path / "again.json"), "-q"]) == 0
    assert (tmp_path / "again.json").read_bytes() == (analysed.path / "report.json").read_bytes()


def test_several_runs_are_one_page(home: Path, analysed, tmp_path: Path):
    runs = [stored(home), stored(home, "other"), analysed]
    out = write_rendered(render(runs, Workspace(home)), tmp_path / "all.html")
    sections = embedded(out)["sections"]
    anchors = [section["anchor"] for section in sections]
    assert len(set(anchors)) == len(anchors)
    assert [s["title"] for s in sections if s["anchor"] in ("run1", "run2", "run3")] == ["Run 1", "Run 2", "Run 3"]
    own = [len(run.read("report.json")["sections"]) for run in runs]
    assert len(sections) == sum(own) + 3
    assert f'href="#{anchors[1]}"' in out.read_text()


def test_redacted_names_are_nowhere(home: Path, analysed, tmp_path: Path, capsys):
    out = tmp_path / "shared.html"
    whole = (analysed.path / "report.html").read_text()
    assert all(name in whole for name in ("Acme", "Øre", "sess-1"))
    assert main(["report", analysed.name, "--redact", "tenants", "-o", str(out)]) == 0
    written = json.dumps(embedded(out), ensure_ascii=False)
    for name in ("Acme", "acme", "brien", "<i>", "&lt;i", "\\u003ci\\u003e", LONG[:12], "Øre", "sess-", 't=7, \\"q'):
        assert name not in written, name
    for name in ("Acme", "acme", "brien", "&lt;i&gt;", LONG[:12], "Øre", "sess-", "t=7, "):
        assert name not in out.read_text(), name
    assert "tenant-1" in written and "tenant-6" in written and "session-1" in written
    figures = [figure for section in embedded(out)["sections"] for figure in section["figures"]]
    kept = [figure for section in analysed.read("report.json")["sections"] for figure in section["figures"]]
    assert [[trace["type"] for trace in f["spec"]["data"]] for f in figures] == [
        [trace["type"] for trace in f["spec"]["data"]] for f in kept
    ]


def test_hostile_names_are_nowhere_either(home: Path, tmp_path: Path):
    """Of two files, so that their names are said, too; the run is named by one of them."""
    n = 700
    columns = {"arrival_s": [float(i) for i in range(n)], "input_tokens": [9] * n, "output_tokens": [10] * n}
    names = [HOSTILE[min(i * 7 % 20, len(HOSTILE) - 1)] for i in range(n)]
    pl.DataFrame(columns | {"tenant": names}).write_parquet(tmp_path / "smile-inc_log.parquet")
    said = "tenant <> 'Northwind… Traders' or input_tokens > 0"
    assert main(["analyze", str(tmp_path / "smile-inc_log.parquet"), "--by", "tenant", "--where", said, "-q"]) == 0
    run, out = find_run("last", Workspace(home)), tmp_path / "shared.html"
    words = ("{customer}", "a.*b", "Northwind", "Traders", "padded", "evil", "Müller", "temp\\", "rm -rf", "broken",
             "LLLL", "Smile", "bold", "& sons", "dashed")  # fmt: skip
    whole = "\n".join(_texts(run.read("report.json")))
    assert all(word in whole for word in words), [word for word in words if word not in whole]
    assert main(["report", run.name, "--redact", "tenants", "--label", "For Traders of 2", "-o", str(out)]) == 0
    shared = "\n".join(_texts(embedded(out) | {"label": ""}))
    assert [word for word in words if word.lower() in shared.lower()] == []
    assert "tenant-14" in shared and "tenant-15" not in shared
    assert embedded(out)["label"] == "For Traders of 2"  # the user's own words, after names were replaced


def test_labels_stand_for_whole_names():
    said = 'Acme Corp, Acme-2; "17" of 17 and 1.17 or 2026-11-17; Acmes; x=%{x:.2f}; Acme Corpora…'
    labels = {
        "Acme": "tenant-1",
        "Acme Corp": "tenant-2",
        "17": "tenant-3",
        "x": "tenant-4",
        "Acme Corporation": "tenant-5",
    }
    assert replacing(labels, said)(said, template=True) == (
        'tenant-2, tenant-1-2; "tenant-3" of tenant-3 and 1.17 or 2026-11-17; Acmes; tenant-4=%{x:.2f}; tenant-5…'
    )
    assert replacing({}, said)(said) == said
    assert replacing({"%{x}": "tenant-1"}, "to %{x}")("to %{x}") == "to tenant-1"  # only templates are filled in
    assert replacing({"%{buyer}": "tenant-1"}, "%{buyer}")("%{buyer}: %{x}", template=True) == "tenant-1: %{x}"
    assert replacing({"17": "session-1"}, said)("17 '17'") == "17 'session-1'"


def test_a_report_says_who_may_read_it_and_by_when_to_decide(home: Path, tmp_path: Path, capsys):
    run, out = stored(home), tmp_path / "r.html"
    made = run.manifest["started"]
    assert run.read("report.json")["facts"]["Generated"] == f"{made[:10]} {made[11:16]} UTC"
    assert '<span class="label">' not in (run.path / "report.html").read_text()
    line = ["report", run.name, "-q", "--overwrite", "-o", str(out)]
    assert main([*line, "--label", "<b>Internal</b>", "--decide-by", "2026-12-18"]) == 0
    page = out.read_text()
    assert '<span class="label">&lt;b&gt;Internal&lt;/b&gt;</span>' in page and "<dd>2026-12-18</dd>" in page
    assert main([*line, "--decide-by", "soon"]) == Exit.USAGE
    assert "'soon' is no date; write it as 2026-12-18" in capsys.readouterr().err
    assert main([*line, "--label", "x" * 81]) == Exit.USAGE
    again = ["report", run.name, run.name, "-q", "-o", str(tmp_path / "both.html"), "--label", "Internal"]
    assert main(again) == 0 and embedded(tmp_path / "both.html")["label"] == "Internal"


def test_the_verdict_on_the_data_stands_on_the_head():
    found = evaluation_report(evaluation(), [], "", Quality("FAIR", ("12 of 90 rows set aside: <i>", "x")))
    assert found.badge == ("FAIR", "plain") and ("The data", "12 of 90 rows set aside: <i>") in found.facts
    assert evaluation_report(evaluation(), []).badge is None
    assert "The data" not in dict(evaluation_report(evaluation(), [], "", Quality("GOOD", ("fine",))).facts)


def test_a_trace_that_is_gone_cannot_be_redacted(home: Path, tmp_path: Path):
    run = stored(home)  # of a trace that the workspace never had
    with pytest.raises(UserError, match="is not in the workspace") as error:
        render([run], Workspace(home), "tenants")
    assert error.value.code == Exit.INPUT
    with pytest.raises(UserError, match="there is tenants"):
        render([run], Workspace(home), "models")


def test_what_cannot_be_written_is_said(home: Path, tmp_path: Path, capsys):
    run = stored(home)
    out = tmp_path / "r.html"
    assert main(["report", run.name, "-o", str(out)]) == 0
    assert main(["report", run.name, "-o", str(out)]) == Exit.USAGE
    assert "add --overwrite" in capsys.readouterr().err
    assert main(["report", run.name, "-o", str(out), "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(out)
    assert main(["report", run.name, "-o", str(tmp_path / "r.pdf")]) == Exit.USAGE
    assert main(["report", run.name, "-o", str(tmp_path / "none" / "r.html")]) == Exit.USAGE
    (run.path / "report.json").write_text(json.dumps(run.read("report.json") | {"sections": [{}]}))
    assert main(["report", run.name, "-o", str(tmp_path / "d.html")]) == Exit.INPUT
    assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "d.html").exists()

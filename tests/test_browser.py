"""Reports as a reader meets them: opened in a browser, on three screens, in two themes, by keyboard and on paper."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("selenium", reason="no selenium (pip install 'lmaas[dev]')")

from browser import DESK, Browser, chromium, squeezed
from evaluation_data import GATES, HOSTILE, ROLES, START, evaluation, meta, scores
from report_data import report_of, trace_of
from test_report_differences import pair, shown

from lmaas.analysis import analyze
from lmaas.policies.spare import SPARE
from lmaas.policies.worst import CAUSES, WORST
from lmaas.reports.html import html
from lmaas.reports.report import analysis_report
from lmaas.reports.section import Report

PHONE, PAPER = 390, 688  # px; paper: A4 within its margins


def alone() -> Report:
    """One policy, one pool, and every request within its SLOs."""
    one = {"preserve": "policy"}
    return report_of(evaluation(one, ("chat",), (None,), scores=scores(one, slo_attainment=[1.0])))


def rich() -> Report:
    """Several pools and policies, with gates, differences and windows that went wrong for every cause."""
    services, regions = ("chat", "code", "agents"), ("us", "eu", "ap")
    fixed = {"service": "chat", "region": "us", "lane": "shared", "length_s": 600.0, "arrived": 300, "how": "by rule"}
    bad = [
        {"policy": policy, "start_s": START + 600 * k, "missed": 10 + k, "slo_attainment": 0.9, "cause": cause, **fixed}
        for policy in ROLES
        for k, cause in enumerate(CAUSES)
    ]
    made = evaluation(services=services, regions=regions, gates=GATES, worst=pl.DataFrame(bad, schema=WORST))
    apart = shown(*(pair(name) for name in ROLES if name != "static-peak"))
    settings = made.settings | {"intervals": apart.settings["intervals"]}
    lost = [
        {"policy": "preserve", "lost": "replica", "service": service, "region": region, "lane": "shared", **felt}
        for service in services
        for region in regions
        for felt in [{"start_s": START, "length_s": 3600.0, "arrived": 300, "taken": 1, "replicas": 4.0}]
    ]
    spare = pl.DataFrame(lost, schema=SPARE).with_columns(attained=0.99, attained_lost=0.9, holds=False)
    return report_of(replace(made, settings=settings, differences=apart.differences, spare=spare))


def hostile() -> Report:
    """Names that are markup wherever a trace or a user can put a name."""
    roles = {f"mine('{HOSTILE}')": "policy", "static-peak": "baseline"}
    services = (HOSTILE, "</script><img src=http://x.invalid/a.png onerror=alert(1)>")
    trace = meta(name=HOSTILE, source="<style>@import url(http://x.invalid/a.css)</style>")
    return report_of(evaluation(roles, services, (HOSTILE,), trace=trace, notes=(HOSTILE,)))


def analysed(folder: Path) -> Report:
    """A small trace with services, tenants, sessions' worth of days and observed latencies."""
    rows = 4000
    names = [("chat", "code", HOSTILE)[i % 3] for i in range(rows)]
    seen: dict[str, list[Any]] = {"ttft_s": [0.1 + i % 9 / 50 for i in range(rows)], "e2e_s": [2.0] * rows}
    trace = trace_of(folder, rows, service=names, tenant=names, **seen)
    return analysis_report(analyze(trace), ["analyze", "trace.parquet"], "run-1")


REPORTS = ("alone", "rich", "hostile", "analysed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file a report."""
    folder = tmp_path_factory.mktemp("pages")
    made = {"alone": alone(), "rich": rich(), "hostile": hostile(), "analysed": analysed(folder)}
    for name, report in made.items():
        (folder / f"{name}.html").write_text(html(report))
    return {name: folder / f"{name}.html" for name in made}


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_opens_without_a_complaint_a_request_or_an_empty_figure(browser, pages, report):
    browser.open(pages[report])
    assert browser.ask("plots().length") > 0
    assert browser.ask("emptyFigures()") == []
    assert browser.ask("overlaps()") == []
    assert browser.ask("cutOff()") == []
    assert browser.ask("pageWidth()") == DESK
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.ask("document.querySelectorAll('[onerror], main img, main script').length") == 0


@pytest.mark.parametrize("report", ["alone", "rich", "analysed"])
def test_a_phone_shows_all_of_it(browser, pages, report):
    browser.open(pages[report], PHONE, "dark")
    assert browser.ask("pageWidth()") == PHONE
    assert browser.ask("cutOff()") == []
    assert browser.ask("overlaps()") == []
    assert browser.ask("emptyFigures()") == []


@pytest.mark.parametrize("report", ["rich", "analysed"])
def test_text_can_be_read_in_both_themes(browser, pages, report):
    browser.open(pages[report])
    browser.ask("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for theme in ("light", "dark"):
        browser.show(theme)
        assert browser.ask("faint()") == [], theme


def test_the_button_changes_the_theme_of_page_and_figures(browser, pages):
    browser.open(pages["rich"])
    seen = [browser.ask("colours()")]
    for _ in range(2):
        browser.ask("document.getElementById('theme').click()")
        seen.append(browser.ask("colours()"))
    light, dark, again = seen
    assert all(a != b for a, b in zip(light, dark, strict=True))
    assert again == light
    assert browser.ask("emptyFigures()") == []
    assert browser.complaints() == []


@pytest.mark.parametrize("report", ["alone", "rich", "analysed"])
def test_paper_has_every_table_and_the_summary_on_one_page(browser, pages, report):
    browser.open(pages[report])
    captions = browser.ask("[...document.querySelectorAll('caption')].map((c) => c.textContent)")
    rows = browser.ask("[...document.querySelectorAll('tbody tr:last-child th')].map((c) => c.textContent)")
    findings = browser.ask("[...document.querySelectorAll('h2')].map((h) => h.textContent)")
    printed = browser.pages()
    whole = "".join(printed)
    gone = [text for text in (*captions, *rows, *findings) if squeezed(text) not in whole]
    assert gone == []
    first, second = map(squeezed, findings[:2])
    notes = browser.ask("[...document.querySelector('section').querySelectorAll('li, p')].map((n) => n.textContent)")
    whole = map(squeezed, notes) if report != "analysed" else ()  # only a decision has to fit one page
    assert [text for text in (first, *whole) if text not in printed[0]] == []
    assert second in printed[1]
    assert len(printed) > 3


@pytest.mark.parametrize("report", ["rich", "analysed"])
def test_paper_is_wide_enough_and_light(browser, pages, report):
    """What is wider makes the browser print all of it smaller."""
    browser.open(pages[report], PAPER, "dark", media="print")
    browser.ask("dispatchEvent(new Event('beforeprint'))")
    assert browser.ask("pageWidth()") == PAPER
    assert browser.ask("cutOff()") == []
    assert (
        browser.ask("[...document.querySelectorAll('.scroll')].filter((s) => s.scrollWidth > s.clientWidth).length")
        == 0
    )
    assert browser.ask("colours()[0]") == "rgb(255, 255, 255)"
    assert browser.ask("faint()") == []


def test_the_keyboard_reaches_every_control_and_shows_where_it_is(browser, pages):
    browser.open(pages["rich"])
    wanted = browser.ask("controls()")
    assert {"a Skip to the report", "button Theme: system", "summary Data table"} <= set(wanted)
    assert browser.tabbed(len(wanted)) == wanted


@pytest.mark.parametrize("report", ["alone", "rich", "analysed"])
def test_headings_captions_and_landmarks(browser, pages, report):
    browser.open(pages[report])
    levels = browser.ask("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    for landmark in ("header", "nav[aria-label]", "main", "footer"):
        assert browser.ask(f"document.querySelectorAll('{landmark}').length") == 1
    assert browser.ask("[...document.querySelectorAll('section')].every((s) => s.querySelector('h2').id)")
    assert browser.ask("[...document.querySelectorAll('table')].every((t) => t.caption?.textContent.trim())")
    assert browser.ask("[...document.querySelectorAll('figure')].every((f) => f.querySelector('table, figcaption'))")
    assert browser.ask("[...document.querySelectorAll('th')].every((t) => t.scope)")

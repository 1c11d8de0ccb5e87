"""Two stored evaluations side by side: intervals where the requests are the same, and what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from evaluation_data import HOSTILE, evaluation, meta, scores

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.stored import StoredRun, find_run, stored_runs
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main
from lmaas.policies.blocks import BUCKETS, Blocks
from lmaas.policies.changes import parse_conditions
from lmaas.policies.compare_runs import compare
from lmaas.policies.differences import BETTER
from lmaas.policies.results import Evaluation
from lmaas.reports.markdown import plain
from lmaas.reports.runs_compared import runs_compared
from lmaas.reports.write import recording, write_evaluation

COUNT = 40


def blocks(share: float, gpu_hours: float, draws: int = 0) -> Blocks:
    """Forty blocks of a thousand requests, their attainment up and down around `share`."""
    wave = np.random.default_rng(draws).normal(0, 0.004, COUNT)
    counts = {name: np.zeros((COUNT, BUCKETS)) for name in ("ttft_s", "tpot_s", "e2e_s")}
    for name, at in (("ttft_s", 800), ("tpot_s", 600), ("e2e_s", 1200)):
        counts[name][:, at : at + 40] = 25
    requests, hours = np.full(COUNT, 1000.0), np.full(COUNT, gpu_hours / COUNT)
    attained = 1000 * np.clip(share + wave, 0, 1)
    groups = {f"tier={name}": (0.5 * requests, 0.5 * attained) for name in ("batch", "interactive-fast")}
    groups |= {f"service={HOSTILE}": (requests, attained)}
    return Blocks(86_400.0, requests, attained, counts, hours, 2.69 * hours, 200 * attained, groups)


def evaluated(hours: float = 412.3, attained: float = 0.9921, **changes: Any) -> Evaluation:
    """An evaluation whose `preserve` spends and attains that."""
    roles = {"preserve": "policy", "static-peak": "baseline"}
    table = scores(roles).with_columns(
        gpu_hours_provisioned=pl.Series([hours, 760.4]),
        cost_usd=pl.Series([2.69 * hours, 2045.0]),
        slo_attainment=pl.Series([attained, 0.9998]),
    )
    stored = [("preserve", blocks(attained, hours)), ("static-peak", blocks(0.9998, 760.4, 1))]
    parts = [of.table().insert_column(0, pl.lit(name).alias("policy")) for name, of in stored]
    found = evaluation(roles, scores=table, blocks=pl.concat(parts), **changes)
    made = {"level": 0.9, "draws": 1000, "blocks": COUNT, "block_s": 2160.0}
    return replace(found, settings={**found.settings, "intervals": made, "load": 1.0, "fidelity": "request"})


@pytest.fixture
def store(home: Path):
    workspace = Workspace(home)

    def put(result: Evaluation, label: str = "preserve") -> StoredRun:
        with recording(workspace, "evaluate", label, ["evaluate"], {}, None) as run:
            written = write_evaluation(result, run)
        return find_run(str(written.run), workspace)

    return put


def row(found: Any, metric: str, policy: str = "preserve") -> dict[str, Any]:
    (one,) = found.rows.filter((pl.col("policy") == policy) & (pl.col("metric") == metric)).to_dicts()
    return one


def test_blocks_are_read_as_they_were_written():
    first = blocks(0.99, 40.0)
    again = Blocks.read(first.table())
    assert again.span_s == pytest.approx(first.span_s)
    for name in ("requests", "attained", "gpu_hours", "usd", "tokens"):
        assert np.array_equal(getattr(again, name), getattr(first, name))
    assert again.groups.keys() == first.groups.keys()
    assert all(np.array_equal(again.groups[name], first.groups[name]) for name in first.groups)
    assert all(np.array_equal(again.counts[name], first.counts[name]) for name in first.counts)
    with pytest.raises(ValueError, match="no blocks"):
        Blocks.read(first.table().filter(pl.col("metric") != "gpu_hours"))


def test_a_run_against_itself_is_no_different(store):
    run = store(evaluated())
    found = compare(run, run, ["gpu_hours>+0%", "overall worse"])
    assert found.exit_code == Exit.OK and found.notes == ()
    assert set(found.rows["verdict"]) == {"no difference"}
    assert found.rows["difference"].drop_nulls().abs().max() == 0


def test_what_changed_has_an_interval_and_a_verdict(store):
    found = compare(store(evaluated()), store(evaluated(hours=430.0, attained=0.996)))
    hours, share = row(found, "gpu_hours_provisioned"), row(found, "slo_attainment")
    assert (hours["value"], hours["reference"], hours["verdict"]) == (430.0, 412.3, "worse")
    assert hours["low"] == pytest.approx(17.7) == hours["high"]  # every block spends alike: nothing scatters
    assert share["low"] <= share["difference"] <= share["high"]
    assert share["verdict"] == "better"
    assert row(found, "overall")["verdict"] == "worse"  # both attain, so cost decides
    assert row(found, "slo_attainment", "static-peak")["verdict"] == "no difference"


@pytest.mark.parametrize(
    ("condition", "passed"),
    [
        ("gpu_hours>+2%", False),
        ("gpu_hours>+5%", True),
        ("gpu_hours >= +17.6", False),
        ("cost>+100", True),
        ("slo_attainment<-0.1pp", True),
        ("slo_attainment<+0.5pp", False),
        ("ttft_p99>+0ms", True),
        ("ttft_p95>-1ms", False),
        ("gpu_hours worse", False),
        ("attain is worse", True),
        ("overall worse", False),
        ("tpot_p95 worse", True),
        ("tpot_p99>+0%", True),
        ("e2e_p50 worse", True),
        ("attain<-0.1pp @ tier=batch", True),
        ("attain<+0.5pp @ tier=batch", False),
        ("slo_attainment is worse @ service=<script>alert(1)</script>", True),
        ("headroom_matched>+1%", None),
    ],
)
def test_conditions_are_on_the_change(store, condition, passed):
    before, after = store(evaluated()), store(evaluated(hours=430.0, attained=0.996))
    if passed is None:
        with pytest.raises(UserError, match="no score 'headroom_matched'"):
            compare(before, after, [condition])
        return
    found = compare(before, after, [condition])
    assert found.conditions["condition"].to_list() == [condition]
    assert found.conditions["policy"].to_list() == ["preserve"]  # of the policies that were asked for
    assert found.conditions["passed"].to_list() == [passed]
    assert found.exit_code == (Exit.OK if passed else Exit.GATE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu_hours>2%", "a change has a sign"),
        ("gpu_hours", "is not SCORE OP CHANGE"),
        ("gpuhours>+2%", "did you mean 'gpu_hours'"),
        ("slo_attainment<-1%", "write|points: -1pp"),
        ("ttft_p99>+50", "has no unit"),
        ("gpu_hours>+2h", "by a number or a %"),
        ("overall>+1%", "write overall worse"),
        ("preemptions worse", "verdicts are on"),
        ("ttft_p99>+5% @ tier=batch", "of one tier, only slo_attainment is compared"),
        ("attain<-1pp @ tier=gold", "no tier 'gold'"),
        ("attain<-1pp @", "ends after '@'"),
    ],
)
def test_what_is_wrong_with_a_condition_is_said(text, said):
    with pytest.raises(UserError, match=said) as error:
        parse_conditions([text])
    assert error.value.code == Exit.USAGE


def test_other_requests_are_shown_and_not_judged(store):
    other = evaluated(trace=meta(trace_id="0" * 16))
    before, after = store(evaluated()), store(other)
    found = compare(before, after)
    assert not found.paired
    assert found.rows["verdict"].null_count() == found.rows.height
    assert found.differ == ("the traces",)
    first = runs_compared(found)[0]
    assert first.finding == "Not comparable, so nothing is judged: the traces differ."
    assert first.title.endswith(f"({'0' * 12}) and {found.trace.split(' and ')[1]}")
    with pytest.raises(UserError, match="the traces of the two runs differ") as error:
        compare(before, after, ["gpu_hours>+2%"])
    assert error.value.code == Exit.USAGE
    moved = evaluated()
    moved = replace(moved, settings=moved.settings | {"cut_s": 0.0})
    assert not compare(before, store(moved)).paired


def test_a_group_that_was_not_compared_is_said(store):
    before, after = store(evaluated()), store(evaluated())
    with pytest.raises(UserError, match=r"no such service was compared; there are <script>alert") as error:
        compare(before, after, ["attain<-1pp @ service=chat"])
    assert error.value.code == Exit.USAGE
    assert {one for one in compare(before, after).rows["metric"] if " @ " in one} == {
        "slo_attainment @ tier=batch", "slo_attainment @ tier=interactive-fast",
    }  # fmt: skip


def test_every_difference_has_an_interval_or_says_why(store):
    before, after = store(evaluated()), store(evaluated(hours=430.0))
    for against, why in ((after, None), (store(evaluated(trace=meta(trace_id="0" * 16))), "the same requests")):
        rows = compare(before, against).rows.filter(pl.col("metric") != "overall")
        assert {name for name in rows["metric"] if " @ " not in name} == set(BETTER)
        assert (rows["low"].is_null() == rows["why"].is_not_null()).all()
        assert rows["low"].null_count() == (0 if why is None else rows.height)
        assert why is None or rows["why"].str.contains(why).all()


def test_other_slos_leave_attainment_unjudged(store):
    other = evaluated(hours=430.0)
    other = replace(other, settings=other.settings | {"slos": []})
    before, after = store(evaluated()), store(other)
    found = compare(before, after, ["gpu_hours>+5%"])
    assert row(found, "slo_attainment")["verdict"] is None
    assert row(found, "gpu_hours_provisioned")["verdict"] == "worse"
    said = dict(found.rows.filter(pl.col("why").is_not_null()).select("metric", "why").iter_rows())
    assert set(said.values()) == {"the SLOs differ"}
    assert set(said) == {
        "slo_attainment", "slo_attainment @ tier=batch", "slo_attainment @ tier=interactive-fast", "goodput_rps",
        "goodput_tok_s",
    }  # fmt: skip
    with pytest.raises(UserError, match="the SLOs of the two runs differ"):
        compare(before, after, ["attain<-1pp"])


def test_the_one_policy_asked_for_may_change_its_name(store):
    renamed = evaluated(hours=430.0)
    table = renamed.scores.with_columns(pl.col("policy").replace("preserve", "preserve(lookahead=50)"))
    moved = renamed.blocks.with_columns(pl.col("policy").replace("preserve", "preserve(lookahead=50)"))
    found = compare(store(evaluated()), store(replace(renamed, scores=table, blocks=moved)), ["gpu_hours>+2%"])
    label = "preserve → preserve(lookahead=50)"
    assert row(found, "gpu_hours_provisioned", label)["verdict"] == "worse"
    assert found.exit_code == Exit.GATE


def test_runs_that_cannot_be_compared_are_refused(store, home):
    run = store(evaluated())
    stranger = store(evaluated())
    metrics = stranger.read("metrics.json")
    others = [one | {"policy": one["policy"] + "-x", "role": "baseline"} for one in metrics["results"]]
    (stranger.path / "metrics.json").write_text(json.dumps(metrics | {"results": others}))
    with pytest.raises(UserError, match="no policy in common"):
        compare(run, stranger)
    with pytest.raises(UserError, match="takes two of evaluate; two traces: lmaas analyze --compare"):
        compare(run, replace(run, manifest={"verb": "analyze"}))
    (run.path / "metrics.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="cannot be read"):
        compare(run, run)
    (run.path / "metrics.json").unlink()
    with pytest.raises(UserError, match="did not end"):
        compare(run, run)


def test_without_blocks_there_are_no_intervals(store):
    run, old = store(evaluated()), store(replace(evaluated(), blocks=pl.DataFrame()))
    found = compare(old, run)
    assert found.rows["verdict"].null_count() == found.rows.height
    assert any("keeps no blocks" in note for note in found.notes)


# ---- how runs are called


def test_a_run_is_found_by_what_people_type(store, home):
    first, second = store(evaluated(), "first"), store(evaluated(), "second")
    workspace = Workspace(home)
    assert [run.name for run in stored_runs(workspace)] == sorted((first.name, second.name), reverse=True)
    assert find_run("last", workspace).name == max(first.name, second.name)
    for called in (first.name, str(first.path), str(first.path / "report.html"), first.name[-4:]):
        assert find_run(called, workspace).path == first.path
    with pytest.raises(UserError, match="means 2 runs"):
        find_run(first.name[:12], workspace)
    with pytest.raises(UserError, match=f"did you mean {re.escape(first.name)}"):
        find_run(first.name.replace("first", "fist"), workspace)
    with pytest.raises(UserError, match="see `lmaas runs list`"):
        find_run("../../..", workspace)


# ---- the command


def test_markdown_for_a_pull_request(store, capsys):
    before, after = store(evaluated(), "before"), store(evaluated(hours=430.0), "after")
    line = ["compare", before.name, after.name, "--md", "--fail-if", "gpu_hours>+2%"]
    assert main(line) == Exit.GATE
    out, err = capsys.readouterr()
    assert err == ""
    assert "| gpu_hours&#62;+2% | preserve | +4.3\N{NO-BREAK SPACE}% | ✗ fail |" in out
    table = [text for text in out.splitlines() if text.startswith("| GPU-hours")]
    assert len(table) == 1 and "worse" in table[0]
    assert "**preserve**" in out and "every score the same in both: static-peak" in out


def test_json_says_what_failed(store, capsys):
    before, after = store(evaluated(), "before"), store(evaluated(hours=430.0), "after")
    assert main(["compare", before.name, after.name, "--json", "--fail-if", "gpu_hours>+2%"]) == Exit.GATE
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["exit_code"], answer["paired"]) == (False, 3, True)
    assert answer["conditions"][0]["value"] == pytest.approx(430 / 412.3 - 1)
    assert main(["compare", before.name, before.name]) == 0
    assert "Every score of every policy is the same" in capsys.readouterr().out


def test_names_cannot_write_markdown():
    assert plain(f"{HOSTILE} |\n") == "&#60;script&#62;alert(1)&#60;/script&#62; &#124;\N{REPLACEMENT CHARACTER}"
    assert plain("[x](http://y) @team `a`") == "&#91;x](http://y) &#64;team &#96;a&#96;"

"""Replays that are kept: the same results whatever the workers and interruptions, and no trust in what is damaged."""

import json
import operator
import os
import shutil
import time

import pytest
from planted import benched, trace
from three_hours import PROFILE, rows, stored

from lmaas.analysis.errors import Exit, UserError
from lmaas.policies import evaluate, worth
from lmaas.policies.full import sensitivity
from lmaas.policies.full.crew import Crew
from lmaas.policies.full.kept import UNUSED_S, Kept, known, pruned
from lmaas.policies.registry import parse_policy

BASE = "last-value(router=round-robin)"


def few(base, errors=()):
    """Two predictors."""
    return [case for case in worth_cases(base) if case.predictor in ("last-value", "median", "truth", "true")
            and case.injected in (None, 0.0)]  # fmt: skip


worth_cases = worth.cases


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Evaluates a small trace in depth, at few points."""
    home = tmp_path_factory.mktemp("home")
    (home / "profile.json").write_text(json.dumps(PROFILE))
    opened = stored(home, rows(n=1000, hours=0.4), "small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worth, "cases", few)
        patch.setattr(sensitivity, "FACTORS", dict.fromkeys(sensitivity.FACTORS, ()) | {sensitivity.LIMITS: (0.5, 2.0)})
        patch.setattr(sensitivity, "ERRORS", (0.3,))

        def again(kept, jobs=1, **more):
            return evaluate(
                opened, [BASE], baselines=["static-mean"], profile=str(home / "profile.json"), attain=0.9,
                window_s=120.0, warmup_s=300.0, depth="full", seeds=2, jobs=jobs, kept=kept, **more,
            )  # fmt: skip

        yield again


def text(result):
    """Everything that is published."""
    return json.dumps(result.metrics(), default=str, sort_keys=True)


def test_stopped_and_resumed_and_by_two_workers_it_finds_the_same(run, tmp_path):
    whole = text(run(None))

    def stop(label, share):
        if label == "sensitivity" and share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=stop)
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}  # what is written again is another file
    assert len(before) > 10
    told = []
    assert text(run(tmp_path, jobs=2, announce=told.append)) == whole
    assert f"({len(before)} more are kept from before)" in told[0]
    after = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    assert before.items() <= after.items() and len(after) > len(before)  # what was kept was not made again
    assert not [path for path in after if path.suffix != ".json"]

    good = {path: path.read_bytes() for path in sorted(after)[:4]}
    bad = (next(iter(good.values()))[:-20], b"", b'{"asked": 1}', b"[]")  # damaged, emptied, of something else
    for path, content in zip(good, bad, strict=True):
        path.write_bytes(content)
    assert text(run(tmp_path)) == whole
    assert {path: path.read_bytes() for path in good} == good


def test_only_a_whole_answer_to_the_same_question_is_taken(tmp_path):
    kept, asked, answer = Kept(tmp_path, "q"), {"policy": "p", "seed": 1}, {"missed": [1.0, 0.1 + 0.2], "why": None}
    assert kept.get(asked) is None
    kept.put(asked, answer)
    assert kept.get(asked) == answer
    assert kept.get({"policy": "p", "seed": 2}) is None and Kept(tmp_path, "other").get(asked) is None
    (path,) = tmp_path.iterdir()
    whole = path.read_text()
    for wrong in (whole[:-20], whole.replace("1.0", "2.0"), whole.replace('\\"seed\\": 1', '\\"seed\\": 3'), "null"):
        path.write_text(wrong)
        assert wrong != whole and kept.get(asked) is None
    path.write_text(whole)
    kept.put({"policy": "p", "seed": 2}, {"missed": [9.0]})
    other = next(one for one in tmp_path.iterdir() if one != path)
    shutil.copy(other, path)  # a whole answer, in the place of another
    assert kept.get(asked) is None
    path.unlink()
    path.mkdir()
    assert kept.get(asked) is None
    assert Kept(None, "q").get(asked) is None


def test_every_part_of_the_question_counts(tmp_path):
    """Whatever is changed, nothing that was kept is taken for it."""
    from lmaas.policies.full.kept import question_of

    bench = benched(tmp_path, trace([4]), "one")
    ready = bench.base[0]
    asked = [question_of(bench.trace, ready, 0.5), question_of(bench.trace, ready, 0.4)]
    for field, value in (("seed", 1), ("attain", 0.9), ("window_s", 60.0), ("given", frozenset({"order"}))):
        setattr_ = {f: getattr(ready, f) for f in ready.__dataclass_fields__} | {field: value}
        asked.append(question_of(bench.trace, type(ready)(**setattr_), 0.5))
    asked.append(question_of(bench.trace, benched(tmp_path, trace([4]), "two", kv_tokens=9000).base[0], 0.5))
    assert len(set(asked)) == len(asked)
    assert question_of(bench.trace, ready, 0.5) == asked[0]


def test_what_code_of_others_decides_is_not_kept():
    assert known(parse_policy("hpa")) is not None
    assert known(parse_policy("hpa(target=8)")) != known(parse_policy("hpa"))
    assert known(parse_policy("hpa", "my_router.py:ROUTER")) is None


def test_errors_of_workers_come_back_as_they_were(tmp_path):
    bench = benched(tmp_path, trace([1]), "crew")
    missing, shares = operator.attrgetter("nothing"), []
    with Crew(bench, 2) as crew:
        assert crew.each([operator.attrgetter("asked"), operator.attrgetter("trace.meta.name")], shares.append) == [
            bench.asked, bench.trace.meta.name,
        ]  # fmt: skip
        with pytest.raises(RuntimeError, match=r"AttributeError.*nothing"):
            crew.each([missing, missing], lambda share: None)
    with Crew(bench, 2) as crew:
        crew.each([operator.attrgetter("asked")] * 2, lambda share: None)
        for child in crew._all:
            child.kill()
            child.wait()
        with pytest.raises(UserError, match="the same command goes on from there") as error:
            crew.each([operator.attrgetter("asked")] * 2, lambda share: None)
    assert error.value.code == Exit.ENVIRONMENT


def test_what_nobody_asked_for_in_a_month_goes(tmp_path):
    kept = Kept(tmp_path, "q")
    for k in range(3):
        kept.put({"k": k}, {"left": k})
    month_ago = time.time() - UNUSED_S - 60
    for path in tmp_path.iterdir():
        os.utime(path, (month_ago, month_ago))
    assert kept.get({"k": 1}) == {"left": 1}  # asked for again
    (tmp_path / "notes.txt").write_text("of somebody else")
    os.utime(tmp_path / "notes.txt", (month_ago, month_ago))
    removed, freed = pruned(tmp_path)
    assert removed == 2 and freed > 0 and pruned(tmp_path) == (0, 0)
    assert [kept.get({"k": k}) for k in range(3)] == [None, {"left": 1}, None] and (tmp_path / "notes.txt").exists()
    assert pruned(tmp_path, 0.0)[0] == 1 and pruned(None) == (0, 0) and pruned(tmp_path / "none") == (0, 0)

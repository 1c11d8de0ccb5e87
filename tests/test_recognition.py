"""Telling formats apart looks into data that may be anything: it answers, and never raises."""

import copy
import dataclasses
from pathlib import Path

import pytest

from lmaas.analysis.formats import FORMATS
from lmaas.analysis.formats.source import Source

FIXTURES = Path(__file__).parent / "fixtures"
JSON = [name for name in FORMATS if Source.open(next(FIXTURES.glob(f"{name}.*"))).kind == "jsonl"]
ODD = (None, 0, -1.5, True, "", "x", [], {}, [None], ["x"], [3.5], [[]], {"x": None})


def places(value, depth):
    """The ways to each part of a value, at most `depth` long."""
    parts = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, part in parts if depth else ():
        yield (key,)
        yield from ((key, *rest) for rest in places(part, depth - 1))


def with_odd(value, way, odd):
    changed = copy.deepcopy(value)
    at = changed
    for key in way[:-1]:
        at = at[key]
    at[way[-1]] = odd
    return changed


@pytest.mark.parametrize("name", JSON)
def test_every_format_answers_whatever_a_sample_holds(name):
    source = Source.open(next(FIXTURES.glob(f"{name}.*")))
    known = FORMATS.load(name)()
    tried = 0
    for way in places(source.samples[0], 5):
        for odd in ODD:
            samples = (with_odd(source.samples[0], way, odd),)
            assert known.recognises(dataclasses.replace(source, samples=samples)) in (True, False)
            tried += 1
    assert tried >= len(ODD)

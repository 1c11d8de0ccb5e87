"""Damaged traces of every format: a UserError or a trace whose rows are all accounted for, and no file elsewhere."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_data import accounted

from lmaas.analysis.errors import UserError
from lmaas.analysis.formats import FORMATS
from lmaas.analysis.formats.source import Source
from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import Workspace

FIXTURES = Path(__file__).parent / "fixtures"
TRACES = sorted(p for p in FIXTURES.iterdir() if p.suffix in (".csv", ".json", ".jsonl") and "llama" not in p.name)
HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**53 + 1, 2**64, -(10**40), 1e308, float("nan"), float("inf"), "", "x", "-", "1e999"),
    *(
        "2024-13-45",
        "0000-00-00T00:00:00Z",
        "\x00",
        "\ud800",
        "=1+1",
        "'; DROP TABLE traces; --",
        "../../x",
        "9" * 5000,
    ),
    *([], {}, [[]], [{}], [None], {"value": []}, [[1], "a", None], {"": {"": {}}}),
)
INSERTED = (
    b"",
    b"\x00",
    b"\xff\xfe",
    b'"',
    b"\n",
    b"\r\n",
    b",",
    b"{",
    b"]",
    b"\\",
    b"9" * 400,
    b"[" * 3000,
    b"\xef\xbb\xbf",
)


def formats_of(paths: list[Path]) -> set[str]:
    found = set()
    for path in paths:
        source = Source.open(path)
        for name in FORMATS:
            known = FORMATS.load(name)()
            if source.kind in known.kinds and known.recognises(source):
                found.add(name)
    return found


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bytes cut out, doubled or put in, at a few places."""
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(content) + 1), rng.choice((0, 1, 3, 50, 1000))
        middle = rng.choice((*INSERTED, content[at : at + length] * 2, rng.randbytes(3)))
        content = content[:at] + middle + content[at + length :]
    return content


def changed_values(content: bytes, rng: random.Random) -> bytes:
    """A value of the JSON, or a cell of the CSV, made hostile."""
    text = content.decode()
    try:
        values = [json.loads(text)]
    except ValueError:
        try:
            values = [json.loads(line) for line in text.splitlines() if line]
        except ValueError:
            return changed_cells(text, rng)
    for _ in range(rng.randint(1, 3)):
        _change(rng.choice(values), rng)
    return "\n".join(json.dumps(value) for value in values).encode()


def _change(value: Any, rng: random.Random) -> None:
    while isinstance(value, (dict, list)) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        if rng.random() < 0.3 or not isinstance(value[key], (dict, list)) or not value[key]:
            if isinstance(value, dict) and rng.random() < 0.2:
                del value[key]
            else:
                value[key] = rng.choice(HOSTILE)
            return
        value = value[key]


def changed_cells(text: str, rng: random.Random) -> bytes:
    lines = text.splitlines()
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(lines))
        cells = lines[at].split(",")
        cells[rng.randrange(len(cells))] = str(rng.choice(HOSTILE))
        lines[at] = ",".join(cells)
    return "\n".join(lines).encode(errors="surrogatepass")


def outcome(path: Path, folder: Path, content: bytes) -> str:
    """What an ingest of it came to; anything but a UserError or an account of all rows is raised."""
    file, home = folder / f"t{path.suffix}", folder / "home"
    file.write_bytes(content)
    try:
        trace = ingest(file, Workspace.open(home), say=lambda _: None)
    except UserError:
        told = "refused"
    else:
        accounted(trace)
        told = "read"
    assert {p.name for p in folder.iterdir()} <= {file.name, home.name}
    return told


def test_the_fixtures_are_of_every_format():
    assert formats_of(TRACES) >= set(FORMATS) - {"baseten"}  # Parquet


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_damaged(path, tmp_path_factory, seed):
    rng = random.Random(seed)
    change = rng.choice((changed_bytes, changed_values))
    assert outcome(path, tmp_path_factory.mktemp("fuzz"), change(path.read_bytes(), rng)) in ("read", "refused")

"""Published trace files beside the first four: what becomes of their columns, on hand-written rows."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest
from trace_data import accounted, reader, rejects

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def read(tmp_path):
    return reader(tmp_path)


def values(trace, name):
    return trace.table(name)[name].to_list()


def test_azure_lmm_has_a_column_of_images_in_the_middle(read):
    trace = read(FIXTURES / "azure_lmm.csv")
    assert (trace.meta.format, trace.meta.epoch) == ("azure", datetime(2024, 10, 15, 12, tzinfo=UTC))
    assert values(trace, "arrival_s") == [0.269, 0.5, 3.0]
    assert values(trace, "input_tokens") == [770, 2114, 1301]
    assert values(trace, "output_tokens") == [491, 87, 0]
    assert accounted(trace) == 4
    assert rejects(trace) == [(3, "input_tokens missing", "2024-10-15T12:00:03.004Z,1,,12")]
    assert [note.split(":")[0] for note in trace.meta.notes] == ["NumImages is not kept", "not read"]


@pytest.mark.parametrize("name", ["azure_lmm.csv"])
def test_packed_they_are_the_same(read, name):
    plain = read(FIXTURES / name)
    packed = read(gzip.compress((FIXTURES / name).read_bytes()), "packed")
    assert packed.table().equals(plain.table()) and packed.meta.rows_set_aside == plain.meta.rows_set_aside

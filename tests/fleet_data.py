"""Fleets and requests for the tests of the fleet file."""

from datetime import UTC, datetime

import polars as pl
import pytest

from lmaas.analysis.errors import Exit, UserError
from lmaas.replay.fleetcheck import check_requests
from lmaas.replay.fleetfile import read_fleet
from lmaas.replay.fleetmake import make_fleet
from lmaas.replay.profile import find_profile

SMALL = find_profile("llama-3.1-8b/h100/tp1")
LARGE = find_profile("llama-3.1-70b/h100/tp2/fp8")
OLD = find_profile("llama-3.1-8b/a100/tp1")
H100, A100 = "H100-SXM-80GB", "A100-SXM-80GB"
SERVED = [("chat", "eu"), ("chat", "us"), ("code", "us"), ("code", None)]
EPOCH = datetime(2025, 3, 1, tzinfo=UTC)


def reader(folder):
    """Text to a fleet file's specification, by way of a file in the folder."""

    def of(text, suffix=".yaml"):
        path = folder / f"fleet{suffix}"
        path.write_text(text)
        return read_fleet(path)

    return of


def maker(read):
    return lambda text, served=SERVED, **more: make_fleet(served, read(text), **more)


def named(fleet):
    return [f"{pool.service}/{pool.region}" for pool in fleet.pools]


def requests(*rows):
    """(service, region, input, output) each, a second apart."""
    return pl.DataFrame(
        [(float(k), s, r, None, i, o) for k, (s, r, i, o) in enumerate(rows)],
        schema={
            "arrival_s": pl.Float64,
            "service": pl.String,
            "region": pl.String,
            "tier": pl.String,
            "input_tokens": pl.UInt32,
            "output_tokens": pl.UInt32,
        },
        orient="row",
    )


PLAIN = requests(*((s, r, 100, 10) for s, r in SERVED))


def checked(fleet, rows=PLAIN, start_s=0.0, end_s=1e6, **more):
    return check_requests(fleet, rows, start_s=start_s, end_s=end_s, **more)


def refused(act):
    with pytest.raises(UserError) as error:
        act()
    assert error.value.code == Exit.CONFIG
    return str(error.value)

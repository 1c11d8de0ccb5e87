"""How requests differ at one time: types, demand, tails, heterogeneity, skew, peaks, pooling, and drift of the mix."""

from collections.abc import Callable

import polars as pl

from lmaas.analysis.progress import each

from . import demand, heterogeneity, mixdrift, pooling, skew, tails, types
from .given import Given

GROUPS = (types, demand, tails, heterogeneity, skew, pooling, mixdrift)
COLUMNS: dict[str, dict[str, str]] = {name: of for group in GROUPS for name, of in group.COLUMNS.items()}
LONG = ("type_mix", "length_cells", "heterogeneity_windows", "tail_curve")  # kept out of metrics.json


def describe(given: Given) -> dict[str, pl.DataFrame]:
    """The tables of COLUMNS; those that would have no row are absent."""
    keys, states = given.summary.keys, given.states
    joint, cube = states["joint"], states["cube"]
    tenants = states.get("tenant_load", pl.DataFrame(schema=TENANTS))
    found = types.learn(joint)
    # % of the time on two weeks of five million requests, measured
    work: tuple[tuple[float, Callable[[], dict[str, pl.DataFrame]]], ...] = (
        (9, lambda: types.tables(joint, keys.joint_s, found)),
        (6, lambda: demand.tables(joint)),
        (19, lambda: tails.tables(states["lengths"])),
        (26, lambda: heterogeneity.tables(joint, keys.joint_s, tenants, keys.tenant_s, found)),
        (13, lambda: skew.tables(cube, keys.window_s, tenants, keys.tenant_s, *given.at)),
        (11, lambda: pooling.tables(cube, keys.window_s, *given.at)),
        (16, lambda: mixdrift.tables(joint, keys.joint_s)),
    )
    tables = (item for tables in each(given.tell, work) for item in tables.items())
    return {name: table for name, table in tables if len(table)}


TENANTS = {"window": pl.Int64, "tenant": pl.String} | dict.fromkeys(skew.MEASURES, pl.Int64)

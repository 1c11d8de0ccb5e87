"""How requests differ at one time: types, demand, tails, heterogeneity, skew, peaks, pooling, and drift of the mix."""

import polars as pl

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
    tables = (
        types.tables(joint, keys.joint_s, found)
        | demand.tables(joint)
        | tails.tables(states["lengths"])
        | heterogeneity.tables(joint, keys.joint_s, tenants, keys.tenant_s, found)
        | skew.tables(cube, keys.window_s, tenants, keys.tenant_s, *given.at)
        | pooling.tables(cube, keys.window_s, *given.at)
        | mixdrift.tables(joint, keys.joint_s)
    )
    return {name: table for name, table in tables.items() if len(table)}


TENANTS = {"window": pl.Int64, "tenant": pl.String} | dict.fromkeys(skew.MEASURES, pl.Int64)

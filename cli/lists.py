"""A noun with one verb, `list`: the catalogues. A group of one command today, so that names stay when more come."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from .options import Json
from .screen import Screen, emit

if TYPE_CHECKING:
    from lmaas.reports.section import Table


def catalogue(what: str, listing: str, module: str = "listing") -> typer.Typer:
    """The group whose `list` prints the tables of `lmaas.reports.<module>.<listing>`."""
    app = typer.Typer(rich_markup_mode=None, help=f"List {what}.")
    app.callback()(_group)
    app.command("list", help=f"List {what}.")(_list(listing, module))
    return app


def _group() -> None:
    """Keeps `list` a word of its own: typer folds a group of one command into it."""


def _list(listing: str, module: str) -> Callable[..., int]:
    def command(ctx: typer.Context, as_json: Json = False) -> int:
        from importlib import import_module

        from lmaas.reports.listing import plain_rows
        from lmaas.reports.terminal import show_table

        screen: Screen = ctx.obj
        tables: dict[str, Table] = getattr(import_module(f"lmaas.reports.{module}"), listing)()
        if as_json:
            emit(0, **{name: plain_rows(table) for name, table in tables.items()})
            return 0
        for table in tables.values():
            show_table(table, screen.out(), limit=table.rows.height)
        return 0

    return command

"""A noun with one verb, `list`: the catalogues. A group of one command today, so that names stay when more come."""

from collections.abc import Callable

import typer

from .options import Json
from .screen import Screen, emit


def catalogue(what: str, listing: str) -> typer.Typer:
    """The group whose `list` prints the tables of `lmaas.reports.listing.<listing>`."""
    app = typer.Typer(rich_markup_mode=None, help=f"List {what}.")
    app.callback()(_group)
    app.command("list", help=f"List {what}.")(_list(listing))
    return app


def _group() -> None:
    """Keeps `list` a word of its own: typer folds a group of one command into it."""


def _list(listing: str) -> Callable[..., int]:
    def command(ctx: typer.Context, as_json: Json = False) -> int:
        from lmaas.reports import listing as listings
        from lmaas.reports.terminal import show_table

        screen: Screen = ctx.obj
        tables = getattr(listings, listing)()
        if as_json:
            emit(0, **{name: listings.plain_rows(table) for name, table in tables.items()})
            return 0
        for table in tables.values():
            show_table(table, screen.out(), limit=table.rows.height)
        return 0

    return command

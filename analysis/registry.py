"""Names to implementations: a literal table for what ships, entry points for what others add."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import Exit, UserError


@dataclass(frozen=True)
class Registry:
    """Listable without importing anything: `kind` names it in errors, `group` is its entry-point group."""

    kind: str
    group: str
    builtin: Mapping[str, str]
    listing: str = ""  # the command that lists the names, for errors

    @cached_property
    def _outside(self) -> dict[str, EntryPoint]:
        # a plug-in cannot replace a built-in: results would change their meaning silently
        return {e.name: e for e in entry_points(group=self.group) if e.name not in self.builtin}

    def __iter__(self) -> Iterator[str]:
        yield from self.builtin
        yield from sorted(self._outside)

    def __contains__(self, name: object) -> bool:
        return name in self.builtin or name in self._outside

    def load(self, name: str) -> Any:
        """The object registered under `name`; UserError (exit 2) with the nearest name if there is none."""
        if name in self.builtin:
            module, _, attribute = self.builtin[name].partition(":")
            return getattr(import_module(module), attribute)
        if name in self._outside:
            return self._outside[name].load()
        near = get_close_matches(name, list(self), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(self)}"
        where = f" ({self.listing})" if self.listing else ""
        raise UserError(f"no {self.kind} named '{name}'{hint}{where}", Exit.USAGE)

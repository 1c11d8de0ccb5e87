"""What the shell completes: names of traces, runs, policies and profiles, looked up when asked for."""

import json
from collections.abc import Callable, Iterable


def _beginning(found: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Those that begin with what is typed; none where they cannot be looked up: a shell shows no errors."""

    def complete(incomplete: str) -> list[str]:
        try:
            return sorted({name for name in found() if name.startswith(incomplete) and name.isprintable()})
        except Exception:
            return []

    complete.__doc__ = found.__doc__  # not functools.wraps: typer goes by the signature
    return complete


@_beginning
def traces() -> Iterable[str]:
    """Of the workspace's folders: its catalogue may be in use."""
    from lmaas.analysis.workspace import Workspace

    for meta in (Workspace.open().root / "traces").glob("*/meta.json"):
        yield str(json.loads(meta.read_bytes())["name"])


@_beginning
def runs() -> Iterable[str]:
    """Likewise, and `last`."""
    from lmaas.analysis.stored import LAST, stored_runs
    from lmaas.analysis.workspace import Workspace

    yield from (run.name for run in stored_runs(Workspace.open()))
    yield LAST


@_beginning
def policies() -> Iterable[str]:
    """Built in and from entry points."""
    from lmaas.policies.registry import POLICIES

    return list(POLICIES)


@_beginning
def profiles() -> Iterable[str]:
    """Those that ship."""
    from lmaas.replay.profile import shipped

    return list(shipped())

"""One policy or router told from its code: what it does, where it is from, its parameters with unit and default."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import MISSING, fields
from typing import Any

import polars as pl

from lmaas.analysis.registry import Registry

from .document import plain
from .format import text
from .section import Column, Section, table

_FIELD = re.compile(r"^    (\w+): [^#\n]*#\s*(.+)$", re.MULTILINE)
UNITS = {"_s": "s", "_gb_s": "GB/s", "_usd": "$", "_tokens": "tokens", "_gb": "GB", "_share": "share"}
COLUMNS = (
    Column("parameter", "Parameter"),
    Column("default", "Default"),
    Column("unit", "Unit"),
    Column("about", "What"),
)


def find(name: str) -> tuple[str, Any]:
    """('policy' or 'router', what is registered so); UserError (exit 2) with the nearest name where there is none."""
    from lmaas.policies.registry import POLICIES
    from lmaas.replay.routers import ROUTERS

    if name in ROUTERS and name not in POLICIES:
        return "router", ROUTERS.load(name)
    both = Registry("policy or router", POLICIES.group, {**ROUTERS.builtin, **POLICIES.builtin}, POLICIES.listing)
    return "policy", POLICIES.load(name) if name in POLICIES else both.load(name)


def policy_facts(name: str) -> dict[str, Any]:
    """What `--json` prints: kind, about, source, file, foresight, parameters (parameter, default, unit, about)."""
    kind, thing = find(name)
    policy = kind == "policy"
    module = sys.modules[(thing if policy else inspect.unwrap(_function(thing))).__module__]
    about = inspect.getdoc(thing if policy else _function(thing)) or ""
    return {
        "name": name,
        "kind": kind,
        "about": about,
        "source": (module.__doc__ or "").strip().partition("\n")[0],
        "file": module.__name__,
        "foresight": policy and _foresight(thing),
        "parameters": _of_policy(thing) if policy else _of_router(thing),
    }


def policy_told(name: str) -> tuple[Section, ...]:
    """The same for people."""
    facts = policy_facts(name)
    schema = dict.fromkeys(("parameter", "default", "unit", "about"), pl.String)
    rows = [{key: "" if row[key] is None else text(row[key]) for key in schema} for row in facts["parameters"]]
    paragraphs = [" ".join(part.split()) for part in facts["about"].split("\n\n")]
    notes = [*paragraphs[1:], f"From {facts['file']}: {facts['source']}"]
    if facts["foresight"]:
        notes.append("It has foresight: it reads the future, as a bound and not a choice.")
    option = f"--{'policy' if facts['kind'] == 'policy' else 'router'}"
    first = f"; {rows[0]['parameter']} set: {option} '{name}({rows[0]['parameter']}=...)'" if rows else ""
    parameters = table(f"{option} {name}{first}", pl.DataFrame(rows, schema=schema), COLUMNS)
    return (
        Section("policy", name, paragraphs[0], tables=(parameters,) if rows else (), notes=tuple(map(text, notes))),
    )


def _function(router: Any) -> Any:
    """The Python function of a router, jitted or not."""
    return getattr(router.route, "py_func", router.route)


def _foresight(kind: Any) -> bool:
    """Of the policy as it is without parameters: of some it depends on them."""
    needs = any(field.default is MISSING and field.default_factory is MISSING for field in fields(kind))
    return bool((kind if needs else kind()).foresight)


def _of_policy(kind: Any) -> list[dict[str, Any]]:
    """Fields in order; what a comment beside a field says of it, in whichever class it stands."""
    said: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        try:
            said |= dict(_FIELD.findall(inspect.getsource(base)))
        except (OSError, TypeError):
            continue
    return [
        {
            "parameter": field.name,
            "default": "needed" if field.default is MISSING else plain(field.default),
            "unit": _unit(field.name, field.type),
            "about": said.get(field.name),
        }
        for field in fields(kind)
        if field.init
    ]


def _unit(name: str, kind: object) -> str | None:
    """By the end of the name, as everywhere in the project."""
    unit = next((unit for end, unit in sorted(UNITS.items(), key=lambda u: -len(u[0])) if name.endswith(end)), None)
    return unit or ("true or false" if kind in (bool, "bool") else None)


def _of_router(router: Any) -> list[dict[str, Any]]:
    from .listing import default_shown

    ranges = {name: str(of) for name, of in router.ranges.items()}
    return [
        {"parameter": name, "default": default_shown(name, value), "unit": _unit(name, None), "about": ranges.get(name)}
        for name, value in router.params.items()
    ]

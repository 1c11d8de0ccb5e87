"""Every policy that ships, in one table, and how users write one: `preserve`, `static(replicas=3)`."""

import ast
from dataclasses import MISSING, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.registry import Registry

POLICIES = Registry(
    "policy",
    group="lmaas.policies",
    builtin={
        "static": "lmaas.policies.static:Static",
        "static-peak": "lmaas.policies.static:StaticPeak",
        "static-mean": "lmaas.policies.static:StaticMean",
        "hpa": "lmaas.policies.hpa:Hpa",
        "last-value": "lmaas.policies.last_value:LastValue",
        "preserve": "lmaas.policies.preserve:PreServe",
        "oracle": "lmaas.policies.oracle:Oracle",
    },
    listing="lmaas policies list",
)


@dataclass(frozen=True)
class Named:
    """A policy under the name it was asked for, with the router it runs with."""

    name: str
    policy: Any
    router: str


def parse_policy(text: str, router: str | None = None) -> Named:
    """`name` or `name(parameter=value, ...)`; UserError (exit 2) naming what is wrong and what would work."""
    try:
        node = ast.parse(_quoted(text), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        raise UserError(f"policy '{text}' is not NAME or NAME(PARAMETER=VALUE, ...)", Exit.USAGE) from None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        name, given = node.value, {}
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Constant) and not node.args:
        name, given = str(node.func.value), _arguments(node, text)
    else:
        raise UserError(f"policy '{text}' is not NAME or NAME(PARAMETER=VALUE, ...)", Exit.USAGE)
    kind = POLICIES.load(name)
    known = [f.name for f in fields(kind)]
    for parameter in given:
        if parameter not in known:
            near = get_close_matches(parameter, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; it has {', '.join(known) or 'none'}"
            raise UserError(f"policy '{name}' has no parameter '{parameter}'{hint}", Exit.USAGE)
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if lacking := [name_ for name_ in needed if name_ not in given]:
        raise UserError(f"policy '{name}' needs {', '.join(lacking)}; write {name}({lacking[0]}=3)", Exit.USAGE)
    try:
        policy = kind(**given)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"policy '{text}': {error}", Exit.USAGE) from None
    if router is not None:
        policy = replace(policy, router=router)
    label = text.strip() if router is None else f"{text.strip()}+{router}"
    return Named(label, policy, policy.router)


def _quoted(text: str) -> str:
    """Names hold hyphens, which Python's grammar does not: make the name a string literal."""
    name, bracket, rest = text.strip().partition("(")
    return repr(name.strip()) + bracket + rest


def _arguments(node: ast.Call, text: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for keyword in node.keywords:
        try:
            given[keyword.arg or ""] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError):
            value = ast.unparse(keyword.value)
            raise UserError(f"policy '{text}': {keyword.arg}={value} is not a plain value", Exit.USAGE) from None
    return given

"""How users write something with parameters: `preserve`, `static(replicas=3)`, `my_router.py:ROUTER(weight=2)`."""

import ast
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from .errors import Exit, UserError

_FORM = re.compile(r"\s*(?P<name>.+\.py:\w+|[^(]*?)\s*(?P<given>\(.*\))?\s*", re.DOTALL)


def parse_call(text: str, kind: str) -> tuple[str, dict[str, Any]]:
    """`name` or `name(parameter=value, ...)` as (name, parameters); UserError (exit 2) where it is neither."""
    wrong = UserError(f"{kind} '{text}' is not NAME or NAME(PARAMETER=VALUE, ...)", Exit.USAGE)
    form = _FORM.fullmatch(text)
    if form is None:
        raise wrong
    try:
        node = ast.parse("f" + (form["given"] or "()"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise wrong from None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise wrong
    given: dict[str, Any] = {}
    for keyword in node.keywords:
        try:
            word = _word(keyword.value)
            given[keyword.arg or ""] = ast.literal_eval(keyword.value) if word is None else word
        except (ValueError, TypeError, RecursionError, MemoryError):
            value = ast.unparse(keyword.value)
            raise UserError(f"{kind} '{text}': {keyword.arg}={value} is not a plain value", Exit.USAGE) from None
    return form["name"], given


def _word(node: ast.expr) -> str | None:
    """A bare name, such as mstl or last-value, as text: names need no quotes; None where it is no name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        left = _word(node.left)
        right = str(node.right.value) if isinstance(node.right, ast.Constant) else _word(node.right)
        return f"{left}-{right}" if left is not None and right is not None else None
    return None


def check_parameters(given: dict[str, Any], known: Sequence[str], what: str) -> None:
    """UserError (exit 2) with the nearest name for a parameter that `what` has not."""
    for parameter in given:
        if parameter not in known:
            near = get_close_matches(parameter, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; it has {', '.join(known) or 'none'}"
            raise UserError(f"{what} has no parameter '{parameter}'{hint}", Exit.USAGE)

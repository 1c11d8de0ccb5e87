"""Text of a trace on a terminal."""

import shlex


def shown(text: str, limit: int = 80) -> str:
    """`text` of a trace as it may be printed on a terminal: one line, no control characters, not endless."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text[: limit + 1])
    return plain if len(text) <= limit else plain[: limit - 1] + "…"


def pasted(text: str) -> str:
    """`text` of a trace in a command that its reader may paste into a shell: one word, whatever is in it."""
    return shlex.quote(shown(text, 200))

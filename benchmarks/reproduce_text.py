"""Numbers and tables as benchmarks/reproduce.py prints them."""


def said_hours(hours: float) -> str:
    """GPU-hours, with as many digits as differences between policies need."""
    return f"{hours:,.2f}" if hours < 100 else f"{hours:,.0f}"


def change(ours: float | None, theirs: float | None) -> str:
    """Ours against theirs."""
    return f"{ours / theirs - 1:+.1%}" if ours is not None and theirs else "–"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

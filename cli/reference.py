"""docs/commands.md, made of the commands' own help: python -m lmaas.cli.reference > docs/commands.md."""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from .main import app, main

HEAD = """\
# Commands

What `lmaas COMMAND --help` says, of every command. Made by `python -m lmaas.cli.reference > docs/commands.md`; a test
fails where it is not current. `-q` (`--quiet`), `-v` (`--verbose`), `--no-color` and `--config FILE` may stand
anywhere in the line; where `NO_COLOR` is set there is no colour either. `lmaas --install-completion` sets up completion
for bash, zsh, fish and PowerShell, of names too.

Options that are always the same need not be typed. A typed option comes first, then the environment
(`LMAAS_EVALUATE_PROFILE`; of a repeatable option one value a line), then `--config FILE`, then `./lmaas.toml`, then
`~/.config/lmaas/config.toml`, then the default. `lmaas init` writes a commented file; `lmaas config show --origin` says
what is set, and where:

```toml
[evaluate]
policy = ["preserve", "hpa(target=8)"]
attain = "99%"
```

What is so set stands in a run's manifest and report as if it had been typed.

[Exit codes](exit-codes.md) · [metrics, SLOs and gates](metrics.md) · [policies](policies.md)
"""


def reference() -> str:
    """The page: a heading and the help of each command, in the order in which they are registered."""
    return "\n".join(
        [HEAD, *(f"## {' '.join(path)}\n\n```\n{_help(path)}\n```\n" for path in _paths(get_command(app)))]
    )


def _paths(group: Any, before: tuple[str, ...] = ()) -> Iterator[list[str]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _paths(command, (*before, name))
        else:
            yield [*before, name]


def _help(path: list[str]) -> str:
    said = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(said):
            main([*path, "--help"])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())


if __name__ == "__main__":
    print(reference(), end="")

"""Options that need not be typed: of LMAAS_<COMMAND>_<OPTION>, --config FILE, ./lmaas.toml and the user's config.toml.

What they set is put into the command line, so that a run's manifest and report hold the whole command. A project's file
comes with a folder that others may have made: it cannot name Python files.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lmaas.analysis.errors import Exit, UserError

PROJECT = Path("lmaas.toml")
NEVER = ("help", "json", "yes", "overwrite", "version")  # of one command line alone


@dataclass(frozen=True)
class Setting:
    """One option of one command: its values as they would be typed, and where they come from."""

    path: tuple[str, ...]
    option: str  # without dashes
    values: tuple[str, ...]  # () for a flag that is set
    origin: str


def user_file() -> Path:
    """~/.config/lmaas/config.toml, or where XDG_CONFIG_HOME says."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "lmaas" / "config.toml"


def settings(root: Any, config: Path | None = None) -> list[Setting]:
    """Those in effect, each option once; UserError (exit 5) for a command, option or value that cannot be.

    root: the click group; config: a file that was typed, and has to be there.
    """
    if config is not None and not config.is_file():
        raise UserError(f"--config {config}: there is no such file", Exit.CONFIG)
    found: dict[tuple[tuple[str, ...], str], Setting] = {}
    typed = [] if config is None else _file(config, root)
    every = [*_environment(root), *typed, *_file(PROJECT, root), *_file(user_file(), root)]
    for one in every:
        found.setdefault((one.path, one.option), one)
    return [one for one in found.values() if one.values != (OFF,)]


OFF = "\0off"
DEFAULT = "default"


def defaults(root: Any) -> list[Setting]:
    """What holds of every option where nothing is set; of those that are off, or chosen by the input, nothing."""
    found = []
    for path, command in _commands(root):
        for option, param in _options(command).items():
            value = param.default
            if isinstance(value, (str, int, float, Path)) and not isinstance(value, bool):
                found.append(
                    Setting(path, option, (f"{value:g}" if isinstance(value, float) else str(value),), DEFAULT)
                )
    return found


def taken(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    """(the command line without `--config FILE`, which may stand anywhere before `--`, the file)."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    kept, config, rest = [], None, iter(argv[:end])
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name != "--config":
            kept.append(argument)
            continue
        value = value if equals else next(rest, "")
        if not value:
            raise UserError("--config needs a file, such as --config night.toml", Exit.USAGE)
        config = Path(value)
    return [*kept, *argv[end:]], config


def _options(command: Any) -> dict[str, Any]:
    """Its options by name without dashes."""
    return {
        max(param.opts, key=len).lstrip("-"): param
        for param in command.params
        if param.param_type_name == "option" and max(param.opts, key=len).lstrip("-") not in NEVER
    }


def _commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))
        else:
            yield (*before, name), command


def _environment(root: Any) -> Iterator[Setting]:
    """A repeatable option takes one value a line."""
    for path, command in _commands(root):
        for option, param in _options(command).items():
            name = "_".join(("LMAAS", *path, option)).replace("-", "_").upper()
            if (said := os.environ.get(name)) is not None:
                value: Any = said.splitlines() if param.multiple else said
                if getattr(param, "is_flag", False):
                    value = said.lower() not in ("", "0", "false", "no")
                yield Setting(path, option, _values(value, param, name), name)


def _file(path: Path, root: Any) -> Iterator[Setting]:
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}", Exit.CONFIG) from None
    yield from _tables(content, root, (), str(path))


def _tables(table: Mapping[str, Any], group: Any, before: tuple[str, ...], file: str) -> Iterator[Setting]:
    for name, inside in table.items():
        command = group.commands.get(name)
        if command is None or not isinstance(inside, dict):
            where = f"{file}: [{'.'.join((*before, name))}]"
            raise UserError(f"{where} is no command{_near(name, group.commands)}", Exit.CONFIG)
        if hasattr(command, "commands"):
            yield from _tables(inside, command, (*before, name), file)
            continue
        options = _options(command)
        for key, value in inside.items():
            option, where = key.replace("_", "-"), f"{file}: {'.'.join((*before, name, key))}"
            if option not in options:
                raise UserError(f"{where} is no option of a file{_near(option, options)}", Exit.CONFIG)
            values = _values(value, options[option], where)
            if file == str(PROJECT) and any(".py:" in text for text in values):
                why = "names code, which a folder's file may not have run: type it, or set it in your own file"
                raise UserError(f"{where} {why}, {user_file()}", Exit.CONFIG)
            yield Setting((*before, name), option, values, file)


def _near(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(known)}"


def _values(value: Any, param: Any, where: str) -> tuple[str, ...]:
    """As they would be typed: numbers are text there, and so need the units that they need on the command line."""
    if getattr(param, "is_flag", False):
        if not isinstance(value, bool):
            raise UserError(f"{where} is {value!r}; write true or false", Exit.CONFIG)
        return () if value else (OFF,)
    several = value if isinstance(value, list) else [value]
    plain = all(isinstance(one, (str, int, float)) and not isinstance(one, bool) for one in several)
    if not plain or (len(several) != 1 and not param.multiple):
        wanted = "a text, a number, or a list of them" if param.multiple else "one text or number"
        raise UserError(f"{where} is {value!r}; write {wanted}", Exit.CONFIG)
    return tuple(map(str, several)) if several else (OFF,)


def with_settings(args: Sequence[str], root: Any, config: Path | None = None) -> list[str]:
    """The command line with what settings add to it: options that are not typed, right after the command's name."""
    at, group = 0, root
    while hasattr(group, "commands") and at < len(args):
        if args[at] in group.commands:
            group = group.commands[args[at]]
        elif not args[at].startswith("-"):
            return list(args)
        at += 1
    path = tuple(a for a in args[:at] if not a.startswith("-"))
    if hasattr(group, "commands") or "--help" in args:
        return list(args)
    return [*args[:at], *_untyped(settings(root, config), path, _options(group), args[at:]), *args[at:]]


def _untyped(
    found: Sequence[Setting], path: tuple[str, ...], options: Mapping[str, Any], typed: Sequence[str]
) -> list[str]:
    added: list[str] = []
    for one in found:
        if one.path == path and not any(_is(argument, options[one.option].opts) for argument in typed):
            added += [f"--{one.option}"] if not one.values else [f"--{one.option}={value}" for value in one.values]
    return added


def _is(argument: str, names: Sequence[str]) -> bool:
    long = argument.partition("=")[0]
    return any(long == name or (len(name) == 2 and argument.startswith(name)) for name in names)

"""What a user names as a source: files, folders and patterns, to the files meant, in order."""

import glob
import re
from collections.abc import Callable, Sequence
from os.path import commonprefix
from pathlib import Path

from .errors import UserError
from .formats.merged import listed, stem
from .formats.source import shown

Say = Callable[[str], None]
PROSE_ENDINGS = frozenset({"md", "rst", "pdf", "html", "cff"})  # no trace is read from these
PROSE = frozenset({"readme", "license", "licence", "copying", "notice", "citation", "changelog", "authors"})
PROSE |= {"checksums", "md5sums", "sha1sums", "sha256sums"}


def is_pattern(argument: str) -> bool:
    """Whether `argument` is a pattern that matches some file, and not a file's name itself."""
    return glob.has_magic(argument) and not Path(argument).exists() and bool(_matches(argument, hidden=True))


def expand(arguments: Sequence[str | Path], say: Say) -> list[Path]:
    """The files meant: a file itself, of a folder all below it, of a pattern all that match, each in order of names.

    Hidden files, and the `._*` that macOS leaves in archives, are passed over where they are not named themselves; so
    is what a folder holds of prose (README, LICENSE).
    """
    found = [path for argument in arguments for path in _files(argument, say)]
    paths: dict[Path, Path] = {}
    for path in found:
        paths.setdefault(path.resolve(), path)
    if len(paths) < len(found):
        say(f"{len(found) - len(paths):,} given more than once: each file is read once")
    return list(paths.values())


def _files(argument: str | Path, say: Say) -> list[Path]:
    path, name = Path(argument), shown(str(argument))
    if path.is_dir():
        every = [inner for inner in sorted(path.rglob("*")) if inner.is_file()]
        plain = [inner for inner in every if not _hidden(inner.relative_to(path))]
        beside = [inner for inner in plain if _is_prose(inner)]
        if beside:
            say(f"{name}: {len(beside):,} of text beside the traces passed over: {_named(beside, path)}")
            every, plain = ([inner for inner in files if inner not in beside] for files in (every, plain))
    elif path.exists() or not glob.has_magic(str(argument)):
        return [path]
    else:
        every = _matches(str(argument), hidden=True)
        plain = _matches(str(argument), hidden=False)
    if len(plain) < len(every):
        passed = sorted(set(every) - set(plain))
        say(f"{name}: {len(passed):,} hidden passed over: {_named(passed, path)}")
    if not plain:
        raise UserError(f"{name}: no file that could be a trace")
    return plain


def _named(files: Sequence[Path], folder: Path) -> str:
    """Some of them, as the folder they were looked for in knows them: whole paths are cut where they are long."""
    inner = folder if folder.is_dir() else None
    return listed([str(file.relative_to(inner)) if inner else file.name for file in files])


def _matches(pattern: str, *, hidden: bool) -> list[Path]:
    # not Path.glob: it takes no absolute pattern, and cannot leave hidden files out
    names = glob.glob(pattern, recursive=True, include_hidden=hidden)  # noqa: PTH207
    return sorted(path for path in map(Path, names) if path.is_file())


def _is_prose(path: Path) -> bool:
    """Whether its name says that it is about the files beside it; JSON may be anything."""
    name, _, ending = path.name.lower().partition(".")
    return ending in PROSE_ENDINGS or (ending in ("", "txt") and name in PROSE)


def _hidden(inner: Path) -> bool:
    return any(part.startswith(".") for part in inner.parts)


def common_name(arguments: Sequence[str | Path], paths: Sequence[Path], *, bare: bool = False) -> str:
    """What to call the trace: the one file or folder, else what the names begin with, else the folder they are in.

    `bare`: the name says nothing of folders, but what the first file's says.
    """
    if len(paths) == 1:
        return stem(paths[0])
    if len(arguments) == 1 and Path(arguments[0]).is_dir() and not bare:
        return Path(arguments[0]).absolute().name or "trace"
    shared = commonprefix([path.name for path in paths])  # noqa: RUF071 - of names, not of paths
    whole = all(not path.name[len(shared) :][:1].isalnum() for path in paths)
    begin = (shared if whole else re.sub(r"[^-_. ]*$", "", shared)).split(".")[0].rstrip("-_ ")
    folder = "" if bare else paths[0].absolute().parent.name
    return begin if len(begin) > 2 else folder or stem(paths[0])

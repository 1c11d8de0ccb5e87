"""What format files are of, told by their content, and how they are read; or why they are none."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import Exit, UserError
from .formats import FORMATS, aggregates
from .formats.base import Format, Reading
from .formats.late import with_late_keys
from .formats.mapped import KNOWN, check_fields, check_time_unit, mapped
from .formats.merged import merge
from .formats.source import Source, missing_columns, shown
from .formats.unfold import Nested, unfolded
from .progress import Tell, steps

TRIED = 3  # files by which an error tells what those beside a stranger are
NEAR = 0.5  # of a format's columns: with so many of them it is what the user means


class Unrecognised(UserError):
    """A source that resembles no format."""


def recognise_all(
    files: Sequence[Path],
    format: str | None,
    mapping: Mapping[str, str],
    time_unit: str | None,
    service_per_file: bool,
    bare_names: bool,
    tell: Tell,
) -> tuple[str, Source, Reading]:
    """As `recognise`, of several files as one."""
    found: list[tuple[str, Source, Reading]] = []
    for _, path in zip(steps(tell, [1.0] * len(files)), files, strict=True):
        try:
            found.append(recognise(Source.open(path), format, mapping, time_unit))
        except UserError as error:
            if len(files) == 1 or error.code != Exit.INPUT:
                raise
            raise _misplaced(path, files, error) from None
    return found[0] if len(found) == 1 and not service_per_file else merge(found, service_per_file, bare_names)


def _misplaced(path: Path, files: Sequence[Path], error: UserError) -> UserError:
    """The error for one of several files that is no trace: what the others are, and how to name them alone."""
    others = [other for other in files if other != path]
    if isinstance(error, Unrecognised):
        known = next((format for other in others[:TRIED] if (format := _format_of(other))), None)
        are = "is" if len(others) == 1 else "and others are"
        beside = f" ({shown(others[0].name)} {are} {known})" if known else ""
        error = UserError(f"{shown(path.name)}: in no format of traces, nor has it columns of any{beside}")
    endings = {other.suffix for other in others}
    apart = len(endings) == 1 and path.suffix not in endings
    pattern = f"by a pattern: '*{shown(endings.pop())}'" if apart else "or move it elsewhere"
    return UserError(f"{error}. Of {len(files):,} files, none is ingested; name those that are meant, {pattern}")


def _format_of(path: Path) -> str | None:
    try:
        return recognise(Source.open(path), None, {}, None)[0]
    except UserError:
        return None


def recognise(
    source: Source, format: str | None, mapping: Mapping[str, str], time_unit: str | None
) -> tuple[str, Source, Reading]:
    """The name of the format of `source`, its rows (a nested format's unfolded) and their reading.

    UserError where there is none, or two (exit 4), or the options do not go together (exit 2).
    """
    unit = check_time_unit(time_unit)
    check_fields(mapping)
    if mapping:
        if format is not None:
            raise UserError(f"--map names the columns itself; leave out --format {shown(format)}", Exit.USAGE)
        source = with_late_keys(source, (*mapping.values(), *KNOWN))
        return "mapped", source, mapped(source, mapping, unit)
    found = _format(source, format)
    known = getattr(found, "optional", ())
    source = unfolded(source, found) if isinstance(found, Nested) else with_late_keys(source, known)
    reading = found.read(source)
    if unit is not None and unit != reading.unit:
        told = f"format {found.name} has its times in {reading.unit}, not {unit}"
        raise UserError(f"{source.name}: {told}; --time-unit goes with --map arrival_s=COLUMN", Exit.USAGE)
    return found.name, source, reading


def _format(source: Source, name: str | None) -> Format:
    if name is not None:
        chosen: Format = FORMATS.load(name)()
        if source.kind not in chosen.kinds:
            raise UserError(f"{source.name}: is {source.kind}; format {name} is {' or '.join(chosen.kinds)}")
        missing = [column for column in chosen.required if column not in source.columns]
        if missing:
            raise missing_columns(source, missing)
        return chosen
    formats: list[Format] = [FORMATS.load(known)() for known in FORMATS]
    fitting = [known for known in formats if source.kind in known.kinds]
    found = [known for known in fitting if known.recognises(source)]
    if len(found) > 1:
        names = ", ".join(known.name for known in found)
        raise UserError(f"{source.name}: could be {names}; say which with --format")
    if found:
        return found[0]
    aggregates.refuse(source.name, source.columns, source.samples)
    # the format with most of its columns there is what the user means; if none has any, the trace table's own
    shares = {known: _share(known, source) for known in fitting}
    nearest = max(fitting, key=lambda known: shares[known] or 0.01 * (known.name == "canonical"))
    if shares[nearest] < NEAR:  # a `model` is in many formats, and in much that is no trace
        nearest = next(known for known in fitting if known.name == "canonical")
    missing = [column for column in nearest.required if column not in source.columns]
    if not missing:
        ways = f"say --format {nearest.name} if it is that, or name its columns with --map and --time-unit"
        raise UserError(f"{source.name}: has the columns that {nearest.name} needs, but none that tells it; {ways}")
    error = missing_columns(source, missing)
    raise error if max(shares.values()) >= NEAR else Unrecognised(str(error), error.code)


def _share(known: Format, source: Source) -> float:
    return sum(column in source.columns for column in known.required) / max(len(known.required), 1)

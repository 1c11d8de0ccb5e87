"""A row of a CSV taken apart."""

import csv


def csv_fields(line: str, delimiter: str, padded: bool = False) -> list[str] | None:
    """The fields of a row; None where it cannot be taken apart. `padded`: quotes may follow spaces."""
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=padded), [])
    except csv.Error:
        return None

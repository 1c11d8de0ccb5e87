"""The sections of an evaluation, one file each: `section(evaluation) -> Section | None`."""

"""The sections of a workload analysis, one file each: `section(analysis) -> Section | None`."""

"""Profiles from measurements: of step times (`stepfit`), and of a log's latencies (`calibrate`)."""

"""What a trace asks for, in space and time: statistics as tables, and sentences that rest on them.

A file a group of statistics; what its tables' columns mean stands in `COLUMNS` (`columns.py` has all). Takes trace
rows or partial states (`summary.py`), never files; nothing here knows of policies, profiles or reports.
"""

"""Routers that ship, one file each; add a line to `replay.routers.ROUTERS` for a new one.

A router sees request and view columns (replay/columns.py); true output lengths stand in neither.
"""

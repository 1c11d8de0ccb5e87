"""Sections of the report of `lmaas forecast`, a file each."""

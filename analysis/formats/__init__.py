"""Trace formats: one adapter a file, each turning a published layout into the trace table's columns.

An adapter reads and names columns; checks, units and rejects are `analysis.ingest`'s business.
"""

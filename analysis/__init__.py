"""Traces in, tables out: the trace table, the workspace, workload characterisation, forecasts, predictors.

The bottom of the house: imports nothing of lmaas outside this folder, and knows no GPU, policy or report.
"""

"""Demand forecasts: `rolling.py` issues them from what was known, `forecaster.py` says what a model is.

`models/` holds the models, a file per family, and `scores.py` says how far off they were.
"""

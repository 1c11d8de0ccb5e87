"""Output lengths predicted at arrival from what was known by then, and re-predicted for what outlives that."""

from .residual import residual_table as residual_table
from .trees import LengthPredictor as LengthPredictor

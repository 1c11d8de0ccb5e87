"""Output lengths predicted at arrival from what was known by then, and re-predicted for what outlives that."""

from .predictor import LengthPredictor as LengthPredictor
from .predictor import capped as capped
from .predictor import known_by as known_by
from .predictor import train as train
from .residual import residual_by_bucket as residual_by_bucket
from .residual import residual_table as residual_table
from .strangers import strangers as strangers

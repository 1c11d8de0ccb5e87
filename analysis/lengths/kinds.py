"""The length predictors there are, by name."""

from ..registry import Registry

PREDICTORS = Registry(
    "length predictor",
    group="lmaas.length_predictors",
    builtin={
        "trees": "lmaas.analysis.lengths.trees:Trees",
        "buckets": "lmaas.analysis.lengths.buckets:Buckets",
        "input-bin": "lmaas.analysis.lengths.floors:InputBin",
        "median": "lmaas.analysis.lengths.floors:Median",
    },
)

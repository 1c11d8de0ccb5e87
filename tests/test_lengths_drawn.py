"""Learned from more rows than are taken: what is drawn of them stands for all."""

import numpy as np
from requests_data import habits

from lmaas.analysis.lengths import LengthPredictor, trees


def test_a_classifiers_buckets_are_scored_by_its_own_edges(monkeypatch):
    monkeypatch.setattr(trees, "MAX_ROWS", 600)
    requests = habits(np.random.default_rng(5), rate=0.6)
    predictor = LengthPredictor.train(requests, cut_s=3600.0, kind="buckets")
    assert predictor.rows > 600
    assert predictor.edges == tuple(predictor.model.edges)

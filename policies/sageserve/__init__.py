"""SageServe (arXiv 2502.14617, POMACS 2025): the hourly ILP, strategies that follow it, reactive baselines."""

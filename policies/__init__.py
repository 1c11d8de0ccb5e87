"""What to decide: every scaling and routing policy, and the evaluator that runs and scores them.

Touches requests only through `lmaas.replay`; draws nothing and prints nothing.
"""

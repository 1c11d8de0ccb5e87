"""OServe: how a budget of GPUs is divided into replicas of several shapes, and request types among these.

Here lives what decides; replicas that change shape and requests that move are the replay's.
"""

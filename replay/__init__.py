"""What happens: GPU profiles, the fleet, the replay kernel, scores.

Knows no policy by name (it defines the protocol policies implement) and prints nothing.
"""

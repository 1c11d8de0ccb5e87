"""`lmaas profile list`: GPU profiles."""

from .lists import catalogue

app = catalogue("GPU profiles", "profiles")

"""`lmaas policies list`: policies, routers and forecasters."""

from .lists import catalogue

app = catalogue("policies, routers and forecasters", "policies")

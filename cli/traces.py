"""`lmaas traces list`: the traces of the workspace."""

from .lists import catalogue

app = catalogue("the traces of the workspace", "traces")

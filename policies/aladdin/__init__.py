"""Aladdin (arXiv 2405.06856): best-fit placement by a router, workers opened and released, fleet size by a relation."""

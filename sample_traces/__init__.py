"""The bundled sample trace and the spec that drew it (README.md); read as package data."""

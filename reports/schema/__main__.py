"""Prints the JSON Schema of a verb's metrics."""

import json
import sys

from . import schema

print(json.dumps(schema(sys.argv[1] if len(sys.argv) > 1 else "evaluate"), indent=2))

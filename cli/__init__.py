"""Parse, call, print: one file a command, heavy imports inside it.

A decision that needs an `if` belongs in a library function with a test.
"""

"""What a user caused: one exception type with the exit code it ends in."""

from enum import IntEnum


class Exit(IntEnum):
    """Documented exit codes (docs/exit-codes.md); stable."""

    OK = 0
    BUG = 1
    USAGE = 2
    GATE = 3
    INPUT = 4
    CONFIG = 5
    INFEASIBLE = 6
    PARTIAL = 7
    ENVIRONMENT = 8


class UserError(Exception):
    """An error that names the input, what was found and what would work; caught once, in `cli.main`."""

    def __init__(self, message: str, code: Exit = Exit.INPUT) -> None:
        super().__init__(message)
        self.code = code

"""Shortcuts through numba's compiler, which is Python: what it works out again and again is remembered or left out.

They lean on numba's internals as `linked` does, and are taken with the same versions only.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm
from numba.core import byteflow, event, interpreter, lowering, typeinfer, types, utils
from numba.core.cpu import CPUContext
from numba.core.errors import WarningsFixer
from numba.core.ir import Inst, Loc, Var
from numba.core.postproc import PostProcessor, VariableLifetime
from numba.core.transforms import canonicalize_cfg
from numba.core.types.functions import BaseFunction
from numba.core.typing.context import BaseContext

from .linked import works


@contextmanager
def swiftly() -> Iterator[None]:
    """Compiling within takes half of the time; what comes out is the same.

    No garbage collection: compiling makes millions of objects that stay, looked through again and again.
    """
    was_on, undo = gc.isenabled(), _shortcuts() if works else []
    gc.disable()
    try:
        yield
    finally:
        for owner, name, function in undo:
            setattr(owner, name, function)
        if was_on:
            gc.enable()


def _shortcuts() -> list[tuple[Any, str, Any]]:
    """Put shortcuts in place of some of numba's functions; returns what to put back."""
    shortcuts = [
        (BaseFunction, "get_call_type", _remembered),
        (Inst, "_rec_list_vars", _variables),
        (lowering, "new_error_context", _context),
        (typeinfer, "new_error_context", _context),
        (event, "start_event", _untold),
        (event, "end_event", _untold),
        (byteflow._logger, "debug", _untold),
        (WarningsFixer, "catch_warnings", _uncaught),
        (interpreter, "peep_hole_delete_with_exit", _without_with),
        (utils, "pysignature", lru_cache(None)),
        (lowering.Lower, "_disable_sroa_like_opt", _fixed),
        (PostProcessor, "run", _dels),
        (BaseContext, "resolve_getattr", _found),
        (CPUContext, "load_additional_registries", _once),
    ]
    undo = [(owner, name, getattr(owner, name)) for owner, name, _ in shortcuts]
    for (owner, name, shortcut), (_, _, function) in zip(shortcuts, undo, strict=True):
        setattr(owner, name, shortcut(function))
    _limit_searches()
    return undo


def _remembered(find: Any) -> Any:
    """What an operator gives for numbers and arrays: numba tries forty overloads each time, thousands of times."""
    known: dict[Any, Any] = {}
    plain = (types.Number, types.Boolean, types.Array, types.BaseTuple, types.SliceType)

    def get_call_type(self: Any, context: Any, args: Any, kws: Any) -> Any:
        if kws or not all(isinstance(arg, plain) for arg in args):
            return find(self, context, args, kws)
        key = (id(self), args)
        if key not in known:
            known[key] = self, find(self, context, args, kws)  # kept with it, else its id might be used again
        return known[key][1]

    return get_call_type


def _found(find: Any) -> Any:
    """The type of an attribute: of the same few records, a dozen times each."""
    known: dict[Any, Any] = {}

    def resolve_getattr(self: Any, kind: Any, name: str) -> Any:
        key = (id(self), kind, name)
        if key not in known:
            known[key] = find(self, kind, name)
        return known[key]

    return resolve_getattr


def _once(load: Any) -> Any:
    """numba's own functions are registered when the first is compiled, not looked for before each."""
    loaded = set()

    def load_additional_registries(self: Any) -> None:
        if id(self) not in loaded:
            loaded.add(id(self))
            load(self)

    return load_additional_registries


def _dels(run: Any) -> Any:
    """Where variables end is worked out once it is asked for, not after each pass; which are alive, for none to ask."""

    def postprocess(self: Any, emit_dels: bool = False, extend_lifetimes: bool = False) -> None:
        function = self.func_ir
        if function.is_generator:
            return run(self, emit_dels, extend_lifetimes)  # type: ignore[no-any-return]
        function.blocks = canonicalize_cfg(function.blocks)
        function.variable_lifetime = VariableLifetime(function.blocks)
        function.generator_info = None
        if emit_dels:
            self._insert_var_dels(extend_lifetimes=extend_lifetimes)
        return None

    return postprocess


def _uncaught(catch: Any) -> Any:
    """A warning is told as it comes, not once for all statements: a filter of warnings is put in place for each."""
    return lambda *args, **kwargs: nullcontext()


def _without_with(delete: Any) -> Any:
    """Looks at each variable of each statement for those of `with`."""

    def peep_hole_delete_with_exit(function: Any) -> Any:
        names = (name for block in function.blocks.values() for name in block.scope.localvars._con)
        return delete(function) if any(name.startswith("$setup_with") for name in names) else function

    return peep_hole_delete_with_exit


def _fixed(asked: Any) -> property:
    """What a function's flags say of debugging, which is asked for each of its variables."""

    def disable_sroa_like_opt(lower: Any) -> Any:
        if not hasattr(lower, "_debugged"):
            lower._debugged = asked.fget(lower)
        return lower._debugged

    return property(disable_sroa_like_opt)


def _variables(find: Any) -> Any:
    """The variables among a statement's parts, most of which are text and numbers."""
    plain = {str, int, float, bool, type(None), Loc}

    def rec_list_vars(self: Any, value: Any) -> list[Any]:
        if type(value) is dict:
            found = []
            for part in value.values():
                kind = type(part)
                if kind is Var:
                    found.append(part)
                elif kind not in plain:
                    found += find(self, part)
            return found
        return find(self, value)  # type: ignore[no-any-return]

    return rec_list_vars


def _context(enter: Any) -> type:
    """What says where an error was: seventy thousand generators, of which none is needed unless there is one."""

    class Context:
        __slots__ = ("said",)

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.said = args, kwargs

        def __enter__(self) -> None:
            pass

        def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
            if error is not None:
                args, kwargs = self.said
                with enter(*args, **kwargs):
                    raise error

    return Context


def _untold(tell: Any) -> Any:
    """Nobody listens for the locks and passes of this compilation."""
    return lambda *args, **kwargs: None


_limited: list[str] = []


def _limit_searches() -> None:
    """LLVM looks less far for stores that are overwritten before they are read: half of its time, and found none more.

    An option is of the process and may be set once.
    """
    for option in ("--dse-memoryssa-walklimit=10", "--dse-memoryssa-scanlimit=20"):
        if option not in _limited:
            _limited.append(option)
            llvm.set_option("lmaas", option)

"""Compiling many jitted functions as one program: each is lowered once, and LLVM optimises all of them once.

numba optimises a function together with all it calls and makes machine code of that, for every function of a call
tree: of the hundred functions of the kernel that was three quarters of the time to compile it. Here an inner function's
library is left as it was lowered, and the entry's library takes in all that its call tree needs, keeps only the entry
visible (so LLVM may change how the others are called) and is optimised once. The results are the same.

This leans on numba's internals: `inner` and `whole` are empty where numba is not one of the versions it was tested
with; the kernel then compiles as numba does by itself.
"""

from collections.abc import Iterator
from typing import Any

import numba
from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, Flags
from numba.core.compiler_machinery import PassManager
from numba.core.typed_passes import (
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode

TESTED = [(0, 65), (0, 66), (0, 67), (0, 68)]


class _Inner(JITCodeLibrary):  # type: ignore[misc]
    """A function's code as lowered: neither optimised with what it calls nor made machine code."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0

    def _get_module_for_linking(self) -> Any:
        """For an ordinary caller: with all it calls."""
        if self._shared_module is None:
            module = self._final_module.clone()
            for needed in list(_call_tree(self, set()))[1:]:
                module.link_in(needed, preserve=True)
            for function in module.functions:
                if not function.is_declaration:
                    function.linkage = "linkonce_odr"
            self._shared_module = module
        return self._shared_module

    @property
    def codegen(self) -> Any:
        return self  # get_executable sets the environment of machine code, of which there is none

    def set_env(self, env_name: str, env: Any) -> None:
        """The environment serves object mode and printing, which inner functions do not use."""


class _Whole(JITCodeLibrary):  # type: ignore[misc]
    """The entry's code with all it calls, each function once."""

    def finalize(self) -> None:
        self._own = {function.name for function in self.get_defined_functions()}
        seen: set[int] = set()
        for library in self._linking_libraries:
            for module in _call_tree(library, seen):
                self._final_module.link_in(module, preserve=True)
        self._linking_libraries = []
        super().finalize()

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if not function.is_declaration and function.name not in self._own:
                function.linkage = "internal"
        # level 1 of 3 takes a third less time; replays ran as fast (they wait for memory, not for arithmetic)
        passes, builder = self._codegen._module_pass_manager(opt=1, loop_vectorize=False, slp_vectorize=False)
        passes.run(self._final_module, builder)


def _call_tree(library: Any, seen: set[int]) -> Iterator[Any]:
    """Modules of the library and, once each, of all it calls."""
    if id(library) in seen:
        return
    seen.add(id(library))
    if not isinstance(library, _Inner):
        yield library._get_module_for_linking()
        return
    yield library._final_module
    for needed in library._linking_libraries:
        yield from _call_tree(needed, seen)


# What kernels need of numba's passes; the others look for closures, array expressions, prunable branches and the like,
# at an eighth of the time
_PASSES = (
    TranslateByteCode, FixupArgs, IRProcessing, ReconstructSSA, NopythonTypeInference,
    PreLowerStripPhis, IRLegalization, NativeLowering, NoPythonBackend,
)  # fmt: skip


def _pipeline(library: type[JITCodeLibrary]) -> dict[str, Any]:
    class Compiler(CompilerBase):  # type: ignore[misc]
        def compile_extra(self, func: Any) -> Any:
            self.state.flags = _Flags(self.state.flags)
            return super().compile_extra(func)

        def define_pipelines(self) -> list[Any]:
            state = self.state
            state.library = library(state.targetctx.codegen(), state.func_id.func_qualname)
            state.library.enable_object_caching()
            passes = PassManager("kernel")
            for each in _PASSES:
                passes.add_pass(each, each.__name__)
            passes.finalize()
            return [passes]

    return {"pipeline_class": Compiler}


class _Flags(Flags):  # type: ignore[misc]
    """numba's flags, compared fast: each operator is looked up by them, which took thirty properties a time."""

    _HASH = hash(tuple(sorted(Flags.options)))  # as numba has it: of the names

    def __hash__(self) -> int:
        return self._HASH

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Flags) and (self is other or self._values == other._values)
        return same or bool(super().__eq__(other))


def unliteral(function: Any) -> Any:
    """The jitted function, compiled once for a call with `0` and one with a variable (numba: once for each literal)."""
    if hasattr(function, "get_call_template"):
        find = function.get_call_template
        function.get_call_template = lambda args, kws: find(tuple(map(types.unliteral, args)), kws)
    return function


# interpreted, numba ignores them
works = numba.version_info[:2] in TESTED
inner: dict[str, Any] = _pipeline(_Inner) if works else {}
whole: dict[str, Any] = _pipeline(_Whole) if works else {}

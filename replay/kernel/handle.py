"""All arrays of a replay passed as one pointer, so that kernels compile in seconds and a call costs microseconds.

numba unpacks a tuple of arrays into seven values an array at every call it compiles: with the thirty arrays of a
replay that was most of 36 s of compilation, and 75 µs at each call from Python. Here a kernel gets the address of a
table of (data, rows, columns), and `st.name` builds that array from it. The table is constant during a call, so its
loads are marked invariant: they cost nothing in loops. Interpreted (NUMBA_DISABLE_JIT=1), `st` is the State itself.
"""

from typing import Any

import numpy as np
from numba import i8, types
from numba.core import cgutils, config
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model
from numba.np.arrayobj import make_array, populate_array

from .state import ARRAY_TYPES, State

WORDS = 3  # a table row: address, rows, columns


class Handle(types.Type):
    """numba's type of an opened table."""

    def __init__(self) -> None:
        super().__init__(name="lmaas.State")


HANDLE = Handle()


@register_model(Handle)
class _HandleModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, cgutils.intp_t.as_pointer())


@infer_getattr
class _HandleAttribute(AttributeTemplate):
    key = Handle

    def generic_resolve(self, typ: Any, attr: str) -> Any:
        return ARRAY_TYPES.get(attr)


@lower_getattr_generic(Handle)
def _get_array(context: Any, builder: Any, typ: Any, value: Any, attr: str) -> Any:
    kind = ARRAY_TYPES[attr]
    at = list(ARRAY_TYPES).index(attr) * WORDS

    def word(offset: int) -> Any:
        loaded = builder.load(cgutils.gep_inbounds(builder, value, at + offset))
        loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
        return loaded

    array = make_array(kind)(context, builder)
    item = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    itemsize = context.get_constant(types.intp, item)
    shape = [word(1 + axis) for axis in range(kind.ndim)]
    strides = [itemsize] if kind.ndim == 1 else [builder.mul(shape[1], itemsize), itemsize]
    data = builder.inttoptr(word(0), context.get_data_type(kind.dtype).as_pointer())
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
    return array._getvalue()


@intrinsic
def _opened(typingctx: Any, table: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return make_array(signature.args[0])(context, builder, args[0]).data

    return HANDLE(i8[::1]), codegen


opened: Any = (lambda table: table) if config.DISABLE_JIT else _opened


def table_of(state: State) -> Any:
    """The table a kernel opens; `state` must outlive its use. Interpreted: the state itself."""
    if config.DISABLE_JIT:
        return state
    table = np.zeros(len(state) * WORDS, np.int64)
    for at, array in enumerate(state):
        table[at * WORDS] = array.ctypes.data
        table[at * WORDS + 1 : at * WORDS + 1 + array.ndim] = array.shape
    return table

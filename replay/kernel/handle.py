"""All arrays of a replay passed as one pointer, so that kernels compile in seconds and a call costs microseconds.

numba unpacks a tuple of arrays into seven values an array at every call it compiles: with the thirty arrays of a
replay that was most of 36 s of compilation, and 75 µs at each call from Python. Here a kernel gets the address of a
table of (data, rows, columns). `st.name` is the address of the name's entry there, and `st.name[i]` one multiplication
and addition from the data: no strides, and no negative indices, which numba's arrays look for at every access. The
table is constant during a call, so its loads are marked invariant: they cost nothing in loops. What routers are handed
is built as numba's own arrays. Interpreted (NUMBA_DISABLE_JIT=1), `st` is the State itself.
"""

import operator
from typing import Any

import numpy as np
from numba import i8, types
from numba.core import cgutils, config
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_global
from numba.extending import (
    infer_getattr,
    intrinsic,
    lower_builtin,
    lower_getattr,
    lower_getattr_generic,
    models,
    register_model,
)
from numba.np.arrayobj import make_array, populate_array

from ..jit import ROUTE, ROUTE_TYPE, compile_route
from .state import ARRAY_TYPES, FOR_ROUTERS, State

WORDS = 3  # a table row: address, rows, columns


class Handle(types.Type):
    """numba's type of an opened table."""

    def __init__(self) -> None:
        super().__init__(name="lmaas.State")


class Column(types.Type):
    """numba's type of one array of the table: the address of its entry, or (one row of two dimensions) of its data."""

    def __init__(self, dtype: types.Type, ndim: int, entry: bool = True) -> None:
        self.dtype, self.ndim, self.entry = dtype, ndim, entry
        super().__init__(name=f"lmaas.Column({dtype}, {ndim}, {entry})")


HANDLE = Handle()
COLUMN_TYPES = {
    name: kind if name in FOR_ROUTERS else Column(kind.dtype, kind.ndim) for name, kind in ARRAY_TYPES.items()
}


@register_model(Handle)
@register_model(Column)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, cgutils.intp_t.as_pointer())


# --- types ---


@infer_getattr
class _HandleAttribute(AttributeTemplate):
    key = Handle

    def generic_resolve(self, typ: Any, attr: str) -> Any:
        return COLUMN_TYPES.get(attr)


@infer_getattr
class _ColumnAttribute(AttributeTemplate):
    key = Column

    def resolve_shape(self, typ: Any) -> Any:
        return types.UniTuple(types.intp, typ.ndim) if typ.entry else None


def _at(column: Any, index: Any) -> Any:
    """(type of what is there, type the index is brought to); None: no such index."""
    if not isinstance(column, Column):
        return None
    if isinstance(index, types.Integer):
        return (column.dtype if column.ndim == 1 else Column(column.dtype, 1, False)), types.intp
    if isinstance(index, types.BaseTuple) and len(index) == column.ndim == 2:
        return column.dtype, types.UniTuple(types.intp, 2)
    return None


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        found = _at(*args)
        return found and signature(found[0], args[0], found[1])


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        found = _at(args[0], args[1])
        return found and signature(types.none, args[0], found[1], found[0])


@infer_global(len)
class _Len(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(types.intp, *args) if isinstance(args[0], Column) and args[0].entry else None


# --- code ---


def _word(builder: Any, entry: Any, offset: int) -> Any:
    """A word of the table, which no call changes."""
    loaded = builder.load(cgutils.gep_inbounds(builder, entry, offset))
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return loaded


def _array(context: Any, builder: Any, kind: Any, entry: Any) -> Any:
    """numba's array of a table entry."""
    array = make_array(kind)(context, builder)
    item = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    itemsize = context.get_constant(types.intp, item)
    shape = [_word(builder, entry, 1 + axis) for axis in range(kind.ndim)]
    strides = [itemsize] if kind.ndim == 1 else [builder.mul(shape[1], itemsize), itemsize]
    data = builder.inttoptr(_word(builder, entry, 0), context.get_data_type(kind.dtype).as_pointer())
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
    return array._getvalue()


@lower_getattr_generic(Handle)
def _get_column(context: Any, builder: Any, typ: Any, value: Any, attr: str) -> Any:
    entry = cgutils.gep_inbounds(builder, value, list(ARRAY_TYPES).index(attr) * WORDS)
    return _array(context, builder, ARRAY_TYPES[attr], entry) if attr in FOR_ROUTERS else entry


@lower_getattr(Column, "shape")
def _get_shape(context: Any, builder: Any, typ: Any, value: Any) -> Any:
    shape = [_word(builder, value, 1 + axis) for axis in range(typ.ndim)]
    return context.make_tuple(builder, types.UniTuple(types.intp, typ.ndim), shape)


@lower_builtin(len, Column)
def _get_len(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _word(builder, args[0], 1)


def _place(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Address of the item, as a pointer to its kind."""
    column, at = sig.args[0], args[1]
    if isinstance(sig.args[1], types.BaseTuple):
        row, at = cgutils.unpack_tuple(builder, at)
        at = builder.add(builder.mul(row, _word(builder, args[0], 2)), at)
    elif column.ndim == 2:
        at = builder.mul(at, _word(builder, args[0], 2))
    kind = context.get_data_type(column.dtype)
    data = _word(builder, args[0], 0) if column.entry else builder.ptrtoint(args[0], cgutils.intp_t)
    return builder.gep(builder.inttoptr(data, kind.as_pointer()), [at], inbounds=True)


@lower_builtin(operator.getitem, Column, types.intp)
@lower_builtin(operator.getitem, Column, types.UniTuple)
def _get_item(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    place = _place(context, builder, sig, args)
    if isinstance(sig.return_type, Column):
        return builder.bitcast(place, cgutils.intp_t.as_pointer())
    return context.unpack_value(builder, sig.return_type, place)  # a record is its address


@lower_builtin(operator.setitem, Column, types.intp, types.Any)
@lower_builtin(operator.setitem, Column, types.UniTuple, types.Any)
def _set_item(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    context.pack_value(builder, sig.args[2], args[2], _place(context, builder, sig, args))
    return context.get_dummy_value()


@intrinsic
def _opened(typingctx: Any, table: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return make_array(signature.args[0])(context, builder, args[0]).data

    return HANDLE(i8[::1]), codegen


opened: Any = (lambda table: table) if config.DISABLE_JIT else _opened


@intrinsic
def _routed(typingctx: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        route = cgutils.create_struct_proxy(ROUTE_TYPE)(context, builder)
        route.c_addr = route.jit_addr = builder.inttoptr(args[0], context.get_value_type(types.voidptr))
        return route._getvalue()

    return ROUTE_TYPE(types.intp), codegen


routed: Any = (lambda route: route) if config.DISABLE_JIT else _routed


def code_of(route: Any) -> Any:
    """Where a compiled router's code is, for `routed`; `route` must outlive its use. Interpreted: the router itself.

    numba looks this up, unpickling a signature twice, whenever a function is handed over: a quarter of a millisecond
    of every tick.
    """
    if config.DISABLE_JIT:
        return route
    compile_route(route)
    compiled = route.get_compile_result(ROUTE)
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def table_of(state: State) -> Any:
    """The table a kernel opens; `state` must outlive its use. Interpreted: the state itself."""
    if config.DISABLE_JIT:
        return state
    table = np.zeros(len(state) * WORDS, np.int64)
    for at, array in enumerate(state):
        table[at * WORDS] = array.ctypes.data
        table[at * WORDS + 1 : at * WORDS + 1 + array.ndim] = array.shape
    return table

"""Operations that a jitted function does in a machine instruction or a library call.

Each is Python with the same meaning, which runs in the plain tier, and LLVM instructions beside it.
Loads and stores are little-endian, of any alignment, and are not checked: the caller answers for
`at` and `length` lying inside the array.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmcs.jit import intrinsic

Bytes = NDArray[np.uint8]

BYTE = 0xFF
CRC32C_POLYNOMIAL = 0x82F6_3B78
"""The Castagnoli polynomial 0x1EDC6F41 with its bits in reflected order."""


def _types() -> Any:
    # llvmlite takes a tenth of a second to load and is wanted only when something compiles.
    import llvmlite.ir  # noqa: PLC0415

    return llvmlite.ir


def _address(context: Any, builder: Any, kind: Any, array: Any, at: Any, bits: int) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    place = builder.gep(data, [at])
    return builder.bitcast(place, _types().IntType(bits).as_pointer())


def _emit_load(bits: int) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at = arguments
        place = _address(context, builder, signature.args[0], array, at, bits)
        word = builder.load(place, align=1)
        return word if bits == 64 else builder.zext(word, _types().IntType(64))

    return emit


def _emit_store(bits: int) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, word = arguments
        place = _address(context, builder, signature.args[0], array, at, bits)
        narrow = word if bits == 64 else builder.trunc(word, _types().IntType(bits))
        builder.store(narrow, place, align=1)
        return context.get_dummy_value()

    return emit


def _load(data: Bytes, at: int, size: int) -> np.uint64:
    return np.uint64(int.from_bytes(data[at : at + size].tobytes(), "little"))


def _store(data: Bytes, at: int, word: np.uint64, size: int) -> None:
    data[at : at + size] = np.frombuffer(int(word).to_bytes(8, "little"), np.uint8, size)


@intrinsic("uint64(const uint8[::1], int64)", _emit_load(64))
def load_u64(data: Bytes, at: int) -> np.uint64:
    """Load the 8 bytes at `at`."""
    return _load(data, at, 8)


@intrinsic("uint64(const uint8[::1], int64)", _emit_load(32))
def load_u32(data: Bytes, at: int) -> np.uint64:
    """Load the 4 bytes at `at`, zero-extended."""
    return _load(data, at, 4)


@intrinsic("uint64(const uint8[::1], int64)", _emit_load(16))
def load_u16(data: Bytes, at: int) -> np.uint64:
    """Load the 2 bytes at `at`, zero-extended."""
    return _load(data, at, 2)


@intrinsic("uint64(const uint8[::1], int64)", _emit_load(8))
def load_u8(data: Bytes, at: int) -> np.uint64:
    """Load the byte at `at`, zero-extended."""
    return _load(data, at, 1)


@intrinsic("void(uint8[::1], int64, uint64)", _emit_store(64))
def store_u64(data: Bytes, at: int, word: np.uint64) -> None:
    """Store `word` in the 8 bytes at `at`."""
    _store(data, at, word, 8)


@intrinsic("void(uint8[::1], int64, uint64)", _emit_store(32))
def store_u32(data: Bytes, at: int, word: np.uint64) -> None:
    """Store the low half of `word` in the 4 bytes at `at`."""
    _store(data, at, word, 4)


@intrinsic("void(uint8[::1], int64, uint64)", _emit_store(16))
def store_u16(data: Bytes, at: int, word: np.uint64) -> None:
    """Store the low 16 bits of `word` in the 2 bytes at `at`."""
    _store(data, at, word, 2)


@intrinsic("void(uint8[::1], int64, uint64)", _emit_store(8))
def store_u8(data: Bytes, at: int, word: np.uint64) -> None:
    """Store the low 8 bits of `word` in the byte at `at`."""
    _store(data, at, word, 1)


def _emit_copy(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    target, to, source, at, length = arguments
    ir = _types()
    pointer, boolean = ir.IntType(8).as_pointer(), ir.IntType(1)
    copy = builder.module.declare_intrinsic("llvm.memcpy", [pointer, pointer, ir.IntType(64)])
    there = _address(context, builder, signature.args[0], target, to, 8)
    here = _address(context, builder, signature.args[2], source, at, 8)
    builder.call(copy, [there, here, length, boolean(0)])
    return context.get_dummy_value()


@intrinsic("void(uint8[::1], int64, const uint8[::1], int64, int64)", _emit_copy)
def copy_bytes(target: Bytes, to: int, source: Bytes, at: int, length: int) -> None:
    """Copy `length` bytes at `at` of `source` to `to` of `target`; they must not overlap."""
    target[to : to + length] = source[at : at + length]


def _emit_clear(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    target, to, length = arguments
    ir = _types()
    clear = builder.module.declare_intrinsic(
        "llvm.memset", [ir.IntType(8).as_pointer(), ir.IntType(64)]
    )
    there = _address(context, builder, signature.args[0], target, to, 8)
    builder.call(clear, [there, ir.IntType(8)(0), length, ir.IntType(1)(0)])
    return context.get_dummy_value()


@intrinsic("void(uint8[::1], int64, int64)", _emit_clear)
def clear_bytes(target: Bytes, to: int, length: int) -> None:
    """Clear `length` bytes at `to`."""
    target[to : to + length] = 0


def _emit_stream(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    target, to, source, at = arguments
    ir = _types()
    pair = ir.VectorType(ir.IntType(64), 2).as_pointer()
    there = builder.bitcast(_address(context, builder, signature.args[0], target, to, 8), pair)
    here = builder.bitcast(_address(context, builder, signature.args[2], source, at, 8), pair)
    store = builder.store(builder.load(here, align=1), there, align=16)
    store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
    return context.get_dummy_value()


@intrinsic("void(uint8[::1], int64, const uint8[::1], int64)", _emit_stream)
def stream_16(target: Bytes, to: int, source: Bytes, at: int) -> None:
    """Copy 16 bytes past the caches; their place in memory must be a multiple of 16.

    A `fence` makes them visible to other processors in order.
    """
    target[to : to + 16] = source[at : at + 16]


def _emit_fence(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
    builder.fence("seq_cst")
    return context.get_dummy_value()


@intrinsic("void()", _emit_fence)
def fence() -> None:
    """Order the stores before it, streamed ones too, before those after it."""


def _emit_prefetch(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array, at = arguments
    ir = _types()
    pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    prefetch = builder.module.declare_intrinsic(
        "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
    )
    place = _address(context, builder, signature.args[0], array, at, 8)
    # A read, of highest locality, of data.
    builder.call(prefetch, [place, flag(0), flag(3), flag(1)])
    return context.get_dummy_value()


@intrinsic("void(const uint8[::1], int64)", _emit_prefetch)
def prefetch(_data: Bytes, _at: int) -> None:
    """Fetch the cache line of byte `at`, which may lie outside the array."""


def _emit_crc32c(bits: int) -> Any:
    name = "llvm.x86.sse42.crc32.64.64" if bits == 64 else "llvm.x86.sse42.crc32.32.8"
    width = 64 if bits == 64 else 32

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        ir = _types()
        register, operand = ir.IntType(width), ir.IntType(bits)
        step = builder.module.declare_intrinsic(
            name, (), ir.FunctionType(register, [register, operand])
        )
        crc, word = arguments
        if bits == 64:
            return builder.call(step, [crc, word])
        narrow = builder.call(step, [builder.trunc(crc, register), builder.trunc(word, operand)])
        return builder.zext(narrow, ir.IntType(64))

    return emit


def _crc32c(crc: int, word: int, bits: int) -> np.uint64:
    rest = (crc & 0xFFFF_FFFF) ^ word
    for _ in range(bits):
        rest = rest >> 1 ^ (CRC32C_POLYNOMIAL if rest & 1 else 0)
    return np.uint64(rest)


@intrinsic("uint64(uint64, uint64)", _emit_crc32c(64), needs="sse4_2")
def crc32c_u64(crc: np.uint64, word: np.uint64) -> np.uint64:
    """CRC32 r64, r/m64: the CRC32C register after the 8 bytes of `word`."""
    return _crc32c(int(crc), int(word), 64)


@intrinsic("uint64(uint64, uint64)", _emit_crc32c(8), needs="sse4_2")
def crc32c_u8(crc: np.uint64, byte: np.uint64) -> np.uint64:
    """CRC32 r32, r/m8: the CRC32C register after the low byte of `byte`."""
    return _crc32c(int(crc), int(byte) & BYTE, 8)


def _emit_clmul(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
    ir = _types()
    word, vector, lane = ir.IntType(64), ir.VectorType(ir.IntType(64), 2), ir.IntType(32)
    multiply = builder.module.declare_intrinsic(
        "llvm.x86.pclmulqdq", (), ir.FunctionType(vector, [vector, vector, ir.IntType(8)])
    )
    factors = [
        builder.insert_element(ir.Constant(vector, [word(0), word(0)]), factor, lane(0))
        for factor in arguments
    ]
    return builder.extract_element(builder.call(multiply, [*factors, ir.IntType(8)(0)]), lane(0))


@intrinsic("uint64(uint64, uint64)", _emit_clmul, needs="pclmulqdq")
def carryless_product(a: np.uint64, b: np.uint64) -> np.uint64:
    """PCLMULQDQ: the low half of the product of two polynomials over GF(2)."""
    product, factor = 0, int(a)
    while factor:
        low = factor & -factor
        product ^= int(b) * low
        factor ^= low
    return np.uint64(product & 0xFFFF_FFFF_FFFF_FFFF)

"""The few terms of ACPI Machine Language that the DSDT needs, each as bytes.

ACPI Specification, ACPI Machine Language (AML) Specification, Byte Stream.
"""

from __future__ import annotations

from typing import Final

OPCODES: Final = {
    # term: opcode, section of the specification
    "ZeroOp": (0x00, "Data Objects Encoding"),
    "OneOp": (0x01, "Data Objects Encoding"),
    "NameOp": (0x08, "Named Objects Encoding"),
    "BytePrefix": (0x0A, "Data Objects Encoding"),
    "WordPrefix": (0x0B, "Data Objects Encoding"),
    "DWordPrefix": (0x0C, "Data Objects Encoding"),
    "ScopeOp": (0x10, "Namespace Modifier Objects Encoding"),
    "PackageOp": (0x12, "Type 2 Opcodes Encoding"),
}
NAME_SEGMENT: Final = 4


def _op(term: str) -> bytes:
    return bytes((OPCODES[term][0],))


def integer(value: int) -> bytes:
    """ConstObj, ByteConst, WordConst or DWordConst, the shortest that holds `value`."""
    if value in (0, 1):
        return _op("OneOp" if value else "ZeroOp")
    for prefix, size in (("BytePrefix", 1), ("WordPrefix", 2), ("DWordPrefix", 4)):
        if value < 1 << 8 * size:
            return _op(prefix) + value.to_bytes(size, "little")
    raise ValueError(f"{value:#x} does not fit a DWordConst")


def segment(name: str) -> bytes:
    """NameSeg: four characters, filled with underscores."""
    root, rest = ("\\", name[1:]) if name.startswith("\\") else ("", name)
    if not 1 <= len(rest) <= NAME_SEGMENT:
        raise ValueError(f"{name!r} is not one name segment")
    return root.encode() + rest.ljust(NAME_SEGMENT, "_").encode()


def package_length(content: int) -> bytes:
    """PkgLength of `content` bytes behind it; the length counts its own bytes."""
    if content + 1 < 1 << 6:
        return bytes((content + 1,))
    for extra in (1, 2, 3):
        total = content + 1 + extra
        if total < 1 << 4 + 8 * extra:
            return bytes((extra << 6 | total & 0xF,)) + (total >> 4).to_bytes(extra, "little")
    raise ValueError(f"a package of {content} bytes is too long")


def package(*elements: bytes) -> bytes:
    """DefPackage."""
    body = bytes((len(elements),)) + b"".join(elements)
    return _op("PackageOp") + package_length(len(body)) + body


def name(path: str, value: bytes) -> bytes:
    """DefName: an object called `path`."""
    return _op("NameOp") + segment(path) + value

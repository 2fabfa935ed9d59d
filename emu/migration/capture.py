"""Captures: nested state with the vCPU registers that belong to it, and where it comes from.

A capture is what `nestling show`, `judge` and `migrate` work on.  Some ship with the project
(`shipped`): answers of real kernels, each with its provenance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Final

from emu.errors import InputError, StateError
from vmcs.nested_state import HEADER_SIZE, VMCS12_OFFSET, Format, NestedFlag
from vmcs.vmx.vmcs12 import VMCS12_BASE, members_of

KIND, VERSION = "nestling-capture", 1
LARGEST_BLOB = 1 << 20
VENDOR_OF = {Format.VMX: "intel", Format.SVM: "amd"}
CPU_OF = {"intel": "skylake-x", "amd": "epyc-milan"}
LONG_MODE = 0x500
SVME = 0x1000
CR0_DEFAULT = 0x8005_0033
CR4_PAE, CR4_VMXE = 0x20, 0x2000
IA32E_MODE_GUEST = 0x200
FEATURE_CONTROL_ENABLED = 5
VMCS12_MEMBERS = members_of(VMCS12_BASE)


def _anything(_value: object) -> bool:
    return True


def _is_word(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 64


def _is_word_or_null(value: object) -> bool:
    return value is None or _is_word(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_truth(value: object) -> bool:
    return isinstance(value, bool)


# What the members of a capture in a file must be.
MEMBER_KINDS: Final[Mapping[str, tuple[str, Callable[[object], bool]]]] = {
    **dict.fromkeys(("cr0", "cr3", "cr4", "efer"), ("a number of 64 bits", _is_word)),
    **dict.fromkeys(("name", "title", "provenance"), ("text", _is_text)),
    "feature_control": ("a number of 64 bits or null", _is_word_or_null),
    "smm": ("true or false", _is_truth),
}


@dataclass(frozen=True)
class Capture:
    """A nested-state blob and the registers that a VMM restores before it.

    `blob` is what KVM_GET_NESTED_STATE wrote: header and data.  `feature_control` is written to
    IA32_FEATURE_CONTROL first; None: it is not written.  `smm`: the vCPU is in system-management
    mode.  `provenance` says which kernel or file the bytes come from.
    """

    name: str
    blob: bytes
    cr0: int = CR0_DEFAULT
    cr3: int = 0x10000
    cr4: int = CR4_PAE
    efer: int = LONG_MODE
    feature_control: int | None = None
    smm: bool = False
    title: str = ""
    provenance: str = ""

    @property
    def format(self) -> Format:
        """The blob's format; VMX where the word is neither."""
        word = int.from_bytes(self.blob[2:4], "little")
        return Format(word) if word in Format.__members__.values() else Format.VMX

    @property
    def vendor(self) -> str:
        """``intel`` or ``amd``."""
        return VENDOR_OF[self.format]

    @property
    def recorded(self) -> bool:
        """Whether the blob is what a real kernel handed out, byte for byte."""
        return self.provenance.startswith("KVM_GET_NESTED_STATE of ")

    @property
    def cpu(self) -> str:
        """Name of the shipped CPU model that the capture belongs on."""
        return CPU_OF[self.vendor]

    def with_blob(self, blob: bytes) -> Capture:
        """The same vCPU with other nested state."""
        return replace(self, blob=blob)

    def to_json(self) -> dict[str, Any]:
        """The capture as a JSON object; `from_json` reads it back."""
        data = {**asdict(self), "blob": self.blob.hex()}
        return {"kind": KIND, "version": VERSION, **data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> Capture:
        """The capture in a JSON object; raises StateError, naming `where` and the key."""
        if data.get("kind") != KIND:
            raise StateError(f"{where}: a JSON object of kind {data.get('kind')!r}, not {KIND!r}")
        if data.get("version") != VERSION:
            raise StateError(f"{where}: version {data.get('version')!r}, this Nestling reads 1")
        known = {key: value for key, value in data.items() if key in cls.__dataclass_fields__}
        try:
            known["blob"] = bytes.fromhex(known["blob"])
        except KeyError:
            raise StateError(f"{where}: 'blob' is missing") from None
        except (TypeError, ValueError):
            raise StateError(f"{where}: 'blob' is not hexadecimal") from None
        known.setdefault("name", where)
        for key, value in known.items():
            wanted, fits = MEMBER_KINDS.get(key, ("", _anything))
            if not fits(value):
                raise StateError(f"{where}: {key!r} is not {wanted}")
        check_blob(known["blob"], where)
        return cls(**known)


def of_blob(name: str, blob: bytes, provenance: str = "") -> Capture:
    """A capture of bare nested state, with the registers that such a vCPU has.

    In guest mode these are L2's: a VMM saves and restores them beside the blob.  For VMX they are
    taken from vmcs12's guest state; SVM's blob holds L1's, so L2 is taken to be in long mode.
    """
    check_blob(blob, name)
    capture = Capture(name, blob, provenance=provenance)
    if capture.format is Format.SVM:
        return replace(capture, efer=LONG_MODE | SVME)
    capture = replace(capture, cr4=CR4_PAE | CR4_VMXE, feature_control=FEATURE_CONTROL_ENABLED)
    flags = int.from_bytes(blob[:2], "little")
    smm = int.from_bytes(blob[24:26], "little") != 0
    if smm:
        return replace(capture, smm=True, cr4=CR4_PAE)
    if not flags & NestedFlag.GUEST_MODE or len(blob) < VMCS12_OFFSET + 998:
        return capture

    def field(name: str) -> int:
        row = VMCS12_MEMBERS[name]
        start = VMCS12_OFFSET + row.offset
        return int.from_bytes(blob[start : start + row.size], "little")

    long_mode = LONG_MODE if field("VM_ENTRY_CONTROLS") & IA32E_MODE_GUEST else 0
    return replace(
        capture,
        cr0=field("GUEST_CR0"),
        cr3=field("GUEST_CR3"),
        cr4=field("GUEST_CR4"),
        efer=long_mode,
    )


def check_blob(blob: bytes, where: str) -> None:
    """Raise StateError, naming `where`, for bytes that cannot be a nested-state blob."""
    if len(blob) < HEADER_SIZE:
        raise StateError(f"{where}: {len(blob)} bytes, but the header alone has {HEADER_SIZE}")
    form, size = int.from_bytes(blob[2:4], "little"), int.from_bytes(blob[4:8], "little")
    if form not in (0, 1):
        message = f"no nested state: format {form:#x} is neither VMX (0) nor SVM (1)"
        raise StateError(message, 2, where)
    if size > len(blob):
        message = f"cut short: the header says {size} bytes, there are {len(blob)}"
        raise StateError(message, 4, where)


@cache
def shipped() -> Mapping[str, Capture]:
    """The captures that ship with the project, by name, in the order of their file names."""
    folder = resources.files("emu.migration") / "captures"
    found = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".json"):
            capture = Capture.from_json(json.loads(entry.read_text("utf-8")), entry.name)
            found[capture.name] = capture
    return found


def shipped_capture(name: str) -> Capture:
    """The shipped capture `name`; raises InputError with the known names."""
    captures = shipped()
    if name not in captures:
        raise InputError(f"no capture is named {name!r}; shipped: {', '.join(captures)}")
    return captures[name]

"""The `cpu` section: named register fields before its subsections, and the bits for nesting.

Versions 12 (1817 bytes, what QEMU 4.1 to 11 write) and 11 (1545 bytes, the oldest that they load).
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from enum import IntFlag

from emu.migration.qemu_stream.fields import (
    FieldRow,
    Value,
    decode,
    encode,
    offsets_of,
    size_of,
)
from vmcs.schema import check_unique, require

CPU_VERSIONS = (11, 12)
"""Versions of the `cpu` section that QEMU loads (minimum_version_id 11, version_id 12)."""

# QEMU 7.2, target/i386/machine.c: vmstate_x86_cpu, x86-64; names without their "env." prefix.
CPU_REGISTERS = (
    FieldRow("regs", "uint64", 16),
    FieldRow("eip", "uint64"),
    FieldRow("eflags", "uint64"),
    FieldRow("hflags", "uint32"),
    FieldRow("fpuc", "uint16"),
    FieldRow("fpus_vmstate", "uint16"),
    FieldRow("fptag_vmstate", "uint16"),
    FieldRow("fpregs_format_vmstate", "uint16"),
    FieldRow("fpregs", "fpreg", 8),
    FieldRow("segs", "segment", 6),
    FieldRow("ldt", "segment"),
    FieldRow("tr", "segment"),
    FieldRow("gdt", "segment"),
    FieldRow("idt", "segment"),
    FieldRow("sysenter_cs", "uint32"),
    FieldRow("sysenter_esp", "uint64"),
    FieldRow("sysenter_eip", "uint64"),
    FieldRow("cr[0]", "uint64"),
    FieldRow("cr[2]", "uint64"),
    FieldRow("cr[3]", "uint64"),
    FieldRow("cr[4]", "uint64"),
    FieldRow("dr", "uint64", 8),
    FieldRow("a20_mask", "int32"),
    FieldRow("mxcsr", "uint32"),
    FieldRow("xmm_regs[0]", "xmm_reg", 16),
    FieldRow("efer", "uint64"),
    FieldRow("star", "uint64"),
    FieldRow("lstar", "uint64"),
    FieldRow("cstar", "uint64"),
    FieldRow("fmask", "uint64"),
    FieldRow("kernelgsbase", "uint64"),
    FieldRow("smbase", "uint32"),
    FieldRow("pat", "uint64"),
    FieldRow("hflags2", "uint32"),
    FieldRow("vm_hsave", "uint64"),
    FieldRow("vm_vmcb", "uint64"),
    FieldRow("tsc_offset", "uint64"),
    FieldRow("intercept", "uint64"),
    FieldRow("intercept_cr_read", "uint16"),
    FieldRow("intercept_cr_write", "uint16"),
    FieldRow("intercept_dr_read", "uint16"),
    FieldRow("intercept_dr_write", "uint16"),
    FieldRow("intercept_exceptions", "uint32"),
    FieldRow("v_tpr", "uint8"),
    FieldRow("mtrr_fixed", "uint64", 11),
    FieldRow("mtrr_deftype", "uint64"),
    FieldRow("mtrr_var", "mtrr_var", 8),
    FieldRow("interrupt_injected", "int32"),
    FieldRow("mp_state", "uint32"),
    FieldRow("tsc", "uint64"),
    FieldRow("exception_nr", "int32"),
    FieldRow("soft_interrupt", "uint8"),
    FieldRow("nmi_injected", "uint8"),
    FieldRow("nmi_pending", "uint8"),
    FieldRow("has_error_code", "uint8"),
    FieldRow("sipi_vector", "uint32"),
    FieldRow("mcg_cap", "uint64"),
    FieldRow("mcg_status", "uint64"),
    FieldRow("mcg_ctl", "uint64"),
    FieldRow("mce_banks", "uint64", 40),
    FieldRow("tsc_aux", "uint64"),
    FieldRow("system_time_msr", "uint64"),
    FieldRow("wall_clock_msr", "uint64"),
    FieldRow("xcr0", "uint64", since=12),
    FieldRow("xstate_bv", "uint64", since=12),
    FieldRow("xmm_regs[1]", "ymmh_reg", 16, since=12),
)

REGISTER_BYTES = {
    version: size_of([row for row in CPU_REGISTERS if row.since <= version])
    for version in CPU_VERSIONS
}
"""Bytes of the registers, by version of the section."""

check_unique([row.name for row in CPU_REGISTERS], "CPU_REGISTERS")
require(REGISTER_BYTES == {11: 1545, 12: 1817}, f"CPU_REGISTERS: {REGISTER_BYTES} bytes")

GPR_NAMES = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
"""What the elements of `regs` are, in order."""

SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs")
"""What the elements of `segs` are, in order."""

CR4_VMXE = 1 << 13
EFER_SVME = 1 << 12


class HFlags(IntFlag):
    """Bits of `hflags` that matter for nesting (QEMU, target/i386/cpu.h: HF_*_SHIFT)."""

    SMM = 1 << 19
    SVME = 1 << 20
    GUEST = 1 << 21


class HFlags2(IntFlag):
    """Bits of `hflags2` that matter for nesting (QEMU, target/i386/cpu.h: HF2_*_SHIFT)."""

    GIF = 1 << 0
    NPT = 1 << 6
    VGIF = 1 << 8


_ROWS = {row.name: row for row in CPU_REGISTERS}
_OFFSETS = offsets_of(CPU_REGISTERS)


class Registers(MutableMapping[str, Value]):
    """The register fields of one `cpu` section by name; an assignment changes the bytes in place.

    A counted field is a list, a struct a mapping of its members, a list of structs both:
    ``registers["segs"][1]["selector"]``. Lists and mappings are copies: assign them back.
    """

    def __init__(self, raw: bytes, version: int) -> None:
        if len(raw) != REGISTER_BYTES[version]:
            raise ValueError(
                f"version {version} has {REGISTER_BYTES[version]} bytes, not {len(raw)}"
            )
        self.raw, self.version = bytearray(raw), version

    @classmethod
    def zeroed(cls, version: int = 12) -> Registers:
        """Registers that are all zero."""
        return cls(bytes(REGISTER_BYTES[version]), version)

    @staticmethod
    def offset_of(name: str) -> int:
        """Where a field begins, counted from the first byte after the section header."""
        return _OFFSETS[name]

    @staticmethod
    def size_of(name: str) -> int:
        """Bytes of a field, all its elements."""
        return _ROWS[name].size

    def __getitem__(self, name: str) -> Value:
        row = self._row(name)
        begin = _OFFSETS[name]
        return decode(row, bytes(self.raw[begin : begin + row.size]))

    def __setitem__(self, name: str, value: Value) -> None:
        row = self._row(name)
        begin = _OFFSETS[name]
        self.raw[begin : begin + row.size] = encode(row, value)

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name}: a register field cannot be left out of a section")

    def __iter__(self) -> Iterator[str]:
        return (row.name for row in CPU_REGISTERS if row.since <= self.version)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def word(self, name: str) -> int:
        """The value of a field that is one number; raises `TypeError` for any other."""
        value = self[name]
        if not isinstance(value, int):
            raise TypeError(f"{name} is not one number")
        return value

    def assign_bits(self, name: str, mask: int, on: bool) -> None:
        """Set (`on`) or clear the bits `mask` of a field that is one number."""
        value = self.word(name)
        self[name] = value | mask if on else value & ~mask

    def _row(self, name: str) -> FieldRow:
        row = _ROWS[name]
        if row.since > self.version:
            raise KeyError(f"{name} is not in version {self.version} of the cpu section")
        return row

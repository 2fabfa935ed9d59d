"""Minimal streams made without QEMU: for demonstrations, tests and judging blobs from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from emu.migration.qemu_stream.cpu import CpuSection
from emu.migration.qemu_stream.cursor import U32, U64
from emu.migration.qemu_stream.delimit import FOOTER_MARK
from emu.migration.qemu_stream.description import vmdescription
from emu.migration.qemu_stream.fields import FieldRow, Value, describe, encode
from emu.migration.qemu_stream.grammar import MAGIC, VERSION, ItemType, Section
from emu.migration.qemu_stream.nested import NestedState
from emu.migration.qemu_stream.ram import CONTINUE, PAGE_BYTES, RAM_VERSION
from emu.migration.qemu_stream.registers import (
    CPU_REGISTERS,
    CR4_VMXE,
    EFER_SVME,
    HFlags2,
    Registers,
)
from emu.migration.qemu_stream.subsections import Subsection
from vmcs.nested_state import Format

CPU_COMMON = (FieldRow("halted", "uint32"), FieldRow("interrupt_request", "uint32"))

_CS_SELECTOR, _CS_BASE, _CS_INDEX = 0xF000, 0xFFFF_0000, 1

# SDM Vol. 3, "Processor State After Reset": the registers that are not zero.
RESET: Mapping[str, Value] = {
    "eip": 0xFFF0,
    "eflags": 0x2,
    "cr[0]": 0x6000_0010,
    "dr": [0, 0, 0, 0, 0, 0, 0xFFFF_0FF0, 0x400],
    "fpuc": 0x37F,
    "mxcsr": 0x1F80,
    "pat": 0x0007_0406_0007_0406,
    "smbase": 0x3_0000,
    "xcr0": 1,
    "hflags2": int(HFlags2.GIF),
    "a20_mask": -1,
    "interrupt_injected": -1,
    "exception_nr": -1,
}


def synthesize(
    nested_states: Sequence[bytes | None] = (None,),
    *,
    machine: str = "pc-q35-7.2",
    ram_bytes: int = 0,
    registers: Mapping[str, Value] | None = None,
    subsections: Sequence[Subsection] = (),
    with_description: bool = True,
) -> bytes:
    """A stream with one vCPU for each kernel blob (None: no nested state) and nothing else.

    It is a complete stream by QEMU's grammar, and minimal: `ram` with one block `pc.ram` of
    `ram_bytes` zero bytes (none for 0), and per vCPU `cpu_common` and `cpu` version 12 at reset,
    changed by `registers`. No other device is in it, so a QEMU that loads it leaves those as they
    are after reset. A vCPU with nested state has CR4.VMXE or EFER.SVME set, and hflags to match.
    `with_description` False leaves out the vmdescription, as suppress-vmdesc does.
    Raises `StateError` for a blob that is cut short, `ValueError` for a value that does not fit.
    """
    name = machine.encode("ascii")
    parts = [MAGIC, U32.pack(VERSION), bytes((ItemType.CONFIGURATION,)), U32.pack(len(name)), name]
    parts += _ram_sections(ram_bytes)
    devices: list[dict[str, Any]] = []
    section_id = 3
    for index, blob in enumerate(nested_states):
        common = b"".join(encode(row, 0) for row in CPU_COMMON)
        parts.append(_full_section(section_id, "cpu_common", index, 1, common))
        devices.append(_device("cpu_common", index, 1, CPU_COMMON, ""))
        cpu = _cpu(index, blob, registers or {}, subsections)
        parts.append(_full_section(section_id + 1, "cpu", index, 12, cpu.to_payload()))
        device = _device("cpu", index, 12, CPU_REGISTERS, "env.")
        if cpu.subsections:
            device["subsections"] = [subsection.describe() for subsection in cpu.subsections]
        devices.append(device)
        section_id += 2
    parts.append(bytes((ItemType.EOF,)))
    if with_description:
        parts.append(vmdescription(json.dumps({"page_size": PAGE_BYTES, "devices": devices})))
    return b"".join(parts)


def _cpu(
    index: int,
    blob: bytes | None,
    registers: Mapping[str, Value],
    subsections: Sequence[Subsection],
) -> CpuSection:
    """A vCPU at reset with the blob put in; its section is not part of a stream yet."""
    state = Registers.zeroed()
    state.update(RESET)
    segments = state["segs"]
    if isinstance(segments, list):
        segments[_CS_INDEX] |= {"selector": _CS_SELECTOR, "base": _CS_BASE, "limit": 0xFFFF}
        state["segs"] = segments
    section = Section(0, 0, ItemType.SECTION_FULL, 0, "cpu", index, 12, 0, 0)
    cpu = CpuSection(section, state, [])
    if blob is not None:
        cpu.set_nested_state(blob)
        if NestedState.from_kernel(blob) is not None:
            kind = int.from_bytes(blob[2:4], "little")
            state.assign_bits("cr[4]", CR4_VMXE, kind == Format.VMX)
            state.assign_bits("efer", EFER_SVME, kind == Format.SVM)
    for subsection in subsections:
        cpu.insert(subsection)
    state.update(registers)
    return cpu


def _ram_sections(ram_bytes: int) -> list[bytes]:
    """The start, part and end of `ram` for one block of zero pages."""
    start = [_word(ram_bytes, 0x04)]
    pages = []
    if ram_bytes:
        block = b"\x06pc.ram"
        start += [block, U64.pack(ram_bytes)]
        pages = [_word(0, 0x02), block, b"\0"]
        for address in range(PAGE_BYTES, ram_bytes, PAGE_BYTES):
            pages += [_word(address, 0x02 | CONTINUE), b"\0"]
    head = bytes((ItemType.SECTION_START,)) + U32.pack(2) + b"\x03ram"
    footer = bytes((FOOTER_MARK,)) + U32.pack(2)
    eos = _word(0, 0x10)
    return [
        *(head, U32.pack(0), U32.pack(RAM_VERSION), *start, eos, footer),
        *(bytes((ItemType.SECTION_PART,)), U32.pack(2), *pages, eos, footer),
        *(bytes((ItemType.SECTION_END,)), U32.pack(2), eos, footer),
    ]


def _word(address: int, flags: int) -> bytes:
    return U64.pack(address | flags)


def _full_section(
    section_id: int, name: str, instance_id: int, version_id: int, payload: bytes
) -> bytes:
    raw = name.encode("ascii")
    head = bytes((ItemType.SECTION_FULL,)) + U32.pack(section_id) + bytes((len(raw),)) + raw
    numbers = U32.pack(instance_id) + U32.pack(version_id)
    return head + numbers + payload + bytes((FOOTER_MARK,)) + U32.pack(section_id)


def _device(
    name: str, instance_id: int, version: int, rows: Sequence[FieldRow], prefix: str
) -> dict[str, Any]:
    entry = {"name": name, "instance_id": instance_id, "vmsd_name": name, "version": version}
    return {**entry, "fields": describe(rows, prefix)}

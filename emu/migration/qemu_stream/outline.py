"""A stream as lines of text with offsets: what is where, down to the nested state's words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emu.migration.qemu_stream.cpu import CpuSection
from emu.migration.qemu_stream.grammar import Command, Configuration, DescriptionItem, Item, Section
from emu.migration.qemu_stream.nested import NESTED_STATE, NestedState
from emu.migration.qemu_stream.registers import Registers
from emu.migration.qemu_stream.stream import QemuStream
from emu.migration.qemu_stream.subsections import Subsection
from vmcs.nested_state import INVALID_GPA

SHOWN_REGISTERS = ("eip", "hflags", "hflags2", "cr[0]", "cr[3]", "cr[4]", "efer", "vm_hsave")
"""Register fields in the outline of a vCPU: where it is, and what nesting turns on."""


@dataclass(frozen=True)
class OutlineRow:
    """One line: `length` bytes from `offset` of the file, `depth` levels deep."""

    offset: int
    length: int
    depth: int
    text: str

    def __str__(self) -> str:
        return f"{self.offset:#10x} {self.length:10} {'  ' * self.depth}{self.text}"


def outline(stream: QemuStream) -> list[OutlineRow]:
    """The parts of the stream as it was read, in order; subsections as they now are."""
    rows = []
    cpus = {id(cpu.section): cpu for cpu in stream.vcpus}
    if stream.image is not None:
        state = "complete" if stream.image.complete else "partial"
        text = f"libvirt save image, {state}, version {stream.image.version}"
        rows.append(OutlineRow(0, stream.image.body, 0, text))
    for item in stream.items:
        rows.append(OutlineRow(item.offset, item.end - item.offset, 0, _title(item)))
        if isinstance(item, Section) and item.ram is not None:
            counts = ", ".join(f"{name} {count}" for name, count in item.ram.records.items())
            length = item.payload_end - item.payload
            rows.append(OutlineRow(item.payload, length, 1, f"records: {counts}"))
            for block in item.ram.blocks:
                text = f"block {block.name}: {block.length:#x} bytes"
                rows.append(OutlineRow(block.offset, block.size, 1, text))
        if id(item) in cpus:
            rows += _cpu_rows(cpus[id(item)])
    return rows


def _title(item: Item) -> str:
    if isinstance(item, Section):
        where = f"{item.name} {item.instance_id}, version {item.version_id}"
        return f"{item.type.name} {item.section_id}: {where}"
    if isinstance(item, Configuration):
        told = ", ".join((*item.subsections, *item.capabilities))
        return f"CONFIGURATION: {item.machine}" + (f" ({told})" if told else "")
    if isinstance(item, Command):
        return f"COMMAND: {item.number.name}"
    return "VMDESCRIPTION" if isinstance(item, DescriptionItem) else "EOF"


def _cpu_rows(cpu: CpuSection) -> Iterator[OutlineRow]:
    payload = cpu.section.payload
    for name in SHOWN_REGISTERS:
        text = f"{name} = {cpu.registers.word(name):#x}"
        yield OutlineRow(payload + Registers.offset_of(name), cpu.registers.size_of(name), 1, text)
    for subsection in cpu.subsections:
        text = f"{subsection.name}, version {subsection.version}"
        at = subsection.offset
        if at is None:
            at, text = cpu.section.payload_end, f"{text} (to be inserted)"
        yield OutlineRow(at, subsection.size, 1, text)
        if subsection.name == NESTED_STATE:
            lines = _nested_lines(subsection.nested_state())
        else:
            lines = _value_lines(subsection)
        for line in lines:
            yield OutlineRow(at, subsection.size, 2, line)


def _value_lines(subsection: Subsection) -> Iterator[str]:
    for name, value in subsection.values().items():
        if isinstance(value, int):
            yield f"{name} = {value:#x}"
        elif isinstance(value, list) and all(isinstance(word, int) for word in value[:1]):
            yield f"{name} = " + " ".join(f"{word:#x}" for word in value[:8])


def _nested_lines(state: NestedState) -> Iterator[str]:
    yield f"flags = {state.flags:#x}, format = {state.format}, size = {state.size}"
    if state.vmx is not None:
        yield f"vmxon_pa = {_address(state.vmx.vmxon_pa)}"
        yield f"vmcs12_pa = {_address(state.vmx.vmcs12_pa)}"
        yield f"smm.flags = {state.vmx.smm_flags:#x}"
        for name, page in (
            ("vmcs12", state.vmx.vmcs12),
            ("shadow_vmcs12", state.vmx.shadow_vmcs12),
        ):
            yield f"{name}: {'not sent' if page is None else f'{len(page)} bytes'}"
    if state.svm is not None:
        yield f"vmcb_pa = {_address(state.svm.vmcb_pa)}"
        yield f"vmcb12: {len(state.svm.vmcb12)} bytes"


def _address(word: int) -> str:
    return "none" if word == INVALID_GPA else f"{word:#x}"

"""QEMU migration streams: read, look at, change and write back the nested state in them.

>>> stream = QemuStream.parse(synthesize())
>>> stream.vcpus[0].nested_state is None
True
"""

from emu.migration.qemu_stream.cpu import CpuSection
from emu.migration.qemu_stream.errors import StreamError
from emu.migration.qemu_stream.grammar import (
    Command,
    CommandNumber,
    Configuration,
    Item,
    ItemType,
    Section,
)
from emu.migration.qemu_stream.libvirt import SaveImage, wrap
from emu.migration.qemu_stream.load_checks import (
    LOAD_CHECKS,
    LoadCheck,
    LoadFinding,
    QemuVersion,
    load_checks,
    qemu_version,
)
from emu.migration.qemu_stream.nested import NestedState, SvmState, VmxState
from emu.migration.qemu_stream.outline import OutlineRow, outline
from emu.migration.qemu_stream.registers import CPU_REGISTERS, HFlags, HFlags2, Registers
from emu.migration.qemu_stream.stream import QemuStream
from emu.migration.qemu_stream.subsections import CPU_SUBSECTIONS, Subsection
from emu.migration.qemu_stream.synthesis import synthesize

__all__ = [
    "CPU_REGISTERS",
    "CPU_SUBSECTIONS",
    "LOAD_CHECKS",
    "Command",
    "CommandNumber",
    "Configuration",
    "CpuSection",
    "HFlags",
    "HFlags2",
    "Item",
    "ItemType",
    "LoadCheck",
    "LoadFinding",
    "NestedState",
    "OutlineRow",
    "QemuStream",
    "QemuVersion",
    "Registers",
    "SaveImage",
    "Section",
    "StreamError",
    "Subsection",
    "SvmState",
    "VmxState",
    "load_checks",
    "outline",
    "qemu_version",
    "synthesize",
    "wrap",
]

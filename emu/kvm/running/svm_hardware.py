"""vmcb01 and vmcb02 on the emulated processor: what L0 adds before VMRUN.

L0's own memory is Python's, so the processor gets nested page tables of one-to-one 1-GByte pages
for L1, whose guest-physical memory is the board's, and permission maps that intercept everything.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from emu.cpu.flags import IF
from emu.kvm.nested_svm.forms import slices_of
from emu.svm.compiled import transfers
from emu.svm.extension import Svm as Extension
from emu.svm.vmcb import ControlBlock
from vmcs.svm.control_bits import MiscControl, MiscControl2, TlbControl
from vmcs.svm.vmcb import SAVE_OFFSET, VMCB_SIZE

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.kvm.running.machine import VirtualCore
    from emu.kvm.svm import Svm
    from emu.memory import PhysicalMemory

PAGE: Final = 4096
GIB: Final = 1 << 30
NPT_TABLE, NPT_GIB_PAGE = 0x7, 0x87
MAP_PAGES: Final = 8  # three of ports, two of MSRs, with room to read beyond
ASID_OF_L1, ASID_OF_L2 = 1, 2
HOST_CR0, HOST_EFER, HOST_CR4 = 0x8005_0033, 0x1D01, 0x20
V_VMSAVE_AND_LBR: Final = int(MiscControl2.VMSAVE_VMLOAD_ENABLE)

# What #VMEXIT changes of the control area.
CHANGED: Final = (
    *slices_of(
        (
            *("int_ctl", "int_state", "exit_code", "exit_info_1", "exit_info_2"),
            *("exit_int_info", "exit_int_info_err", "event_inj", "next_rip"),
            *("insn_len", "insn_bytes"),
        )
    ),
    slice(SAVE_OFFSET, VMCB_SIZE),
)

# What VMLOAD and VMSAVE move. APM Vol. 3, VMLOAD.
VMLOADED: Final = slices_of(
    (
        *(
            f"{name}.{part}"
            for name in ("fs", "gs", "tr", "ldtr")
            for part in ("selector", "attrib", "limit", "base")
        ),
        *("kernel_gs_base", "star", "lstar", "cstar", "sfmask"),
        *("sysenter_cs", "sysenter_esp", "sysenter_eip"),
    )
)


class HostMemory:
    """L0's tables in memory that no guest is given: behind all that its second level maps."""

    def __init__(self, memory: PhysicalMemory) -> None:
        top = memory.pages * PAGE
        self.tables = top - 2 * PAGE
        self.maps = self.tables - MAP_PAGES * PAGE
        if memory.host(self.tables):
            return
        memory.add_ram(self.maps, (2 + MAP_PAGES) * PAGE)
        pages = [number * GIB | NPT_GIB_PAGE for number in range(top // GIB - 1)]
        memory.load(self.tables, struct.pack("<Q", self.tables + PAGE | NPT_TABLE))
        memory.load(self.tables + PAGE, struct.pack(f"<{len(pages)}Q", *pages))
        memory.load(self.maps, b"\xff" * (MAP_PAGES * PAGE))


class SvmHardware:
    """The processor as L0 uses it: VMRUN of a control block of KVM's, and what an exit left."""

    def __init__(self, cpu: Cpu, host: HostMemory) -> None:
        assert isinstance(cpu.extension, Extension)
        self.cpu, self.extension, self.host = cpu, cpu.extension, host
        self.block = ControlBlock.blank()
        self.flush = False

    @classmethod
    def of(cls, core: VirtualCore) -> SvmHardware:
        """The processor of `core`, with the tables of its board."""
        return cls(core.cpu, HostMemory(core.board.memory))

    def enter(self, svm: Svm) -> None:
        """VMRUN with the current control block."""
        block, state = self.block, self.cpu.state
        nested = svm.nested
        block.data[:] = svm.vmcb.view
        block["misc_ctl"] = int(MiscControl.NP_ENABLE)
        block["misc_ctl2"] &= ~V_VMSAVE_AND_LBR
        block["iopm_base_pa"] = self.host.maps
        block["msrpm_base_pa"] = self.host.maps
        block["asid"] = ASID_OF_L2 if nested.in_guest_mode else ASID_OF_L1
        block["tlb_ctl"] = int(TlbControl.FLUSH_ALL if self.flush else TlbControl.DO_NOTHING)
        own = nested.in_guest_mode and svm.nested_npt
        block["nested_cr3"] = nested.vmcb12["nested_cr3"] if own else self.host.tables
        self.flush = False
        transfers()["vmload"](state.address, block.host)
        state.cr0, state.efer, state.cr4 = HOST_CR0, HOST_EFER, HOST_CR4
        state.rflags |= IF
        self.cpu.next_rip = int(state.rip)
        self.extension.run(block)

    def save(self, svm: Svm) -> None:
        """Guest state and exit information, as #VMEXIT left them, into KVM's control block."""
        transfers()["vmsave"](self.cpu.state.address, self.block.host)
        svm.vmcb.take(self.block.data, CHANGED)

    def save_guest(self, svm: Svm) -> None:
        """Guest state of now into KVM's control block, without an exit."""
        transfers()["save_guest"](self.cpu.state.address, self.block.host)
        self.save(svm)

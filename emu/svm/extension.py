"""SVM of one processor: what it keeps between instructions, and its MSRs. APM Vol. 2, SVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from emu.cpu.exit_report import ExitReport
from emu.cpu.guest_mode import Extension
from emu.cpu.paging import EFER_SVME
from emu.cpu.system.msrs import Refused
from emu.svm import switch
from emu.svm.asids import Asids
from emu.svm.checks import VmrunChecks
from emu.svm.instructions import TABLE
from emu.svm.report import exit_report
from emu.svm.vmcb import ControlBlock
from vmcs.svm.msrs import SVM_MSRS, TSC_RATIO, TSC_RATIO_RESET
from vmcs.svm.msrs import VM_CR as VM_CR_LAYOUT

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.svm.guest import SvmGuest
    from emu.svm.plan import Key, Plan

EFER: Final = 0xC000_0080
INDEX: Final = {row.name: row.index for row in SVM_MSRS}
VM_CR_BITS: Final = sum(
    VM_CR_LAYOUT[name].mask for name in ("DPD", "R_INIT", "DIS_A20M", "LOCK", "SVMDIS")
)
LOCK, SVMDIS = VM_CR_LAYOUT["LOCK"].mask, VM_CR_LAYOUT["SVMDIS"].mask
R_INIT: Final = VM_CR_LAYOUT["R_INIT"].mask
TSC_RATIO_BITS: Final = TSC_RATIO["FRAC"].mask | TSC_RATIO["INT"].mask
PAGE_OFFSET: Final = 0xFFF
BLOCKS: Final = 64  # control blocks kept by a processor


class Monitor(Protocol):
    """A host in Python: #VMEXIT calls it instead of loading the host's state."""

    def exited(self, svm: Svm) -> None:
        """A guest was left: its VMCB, `svm.block`, tells why."""


class Svm(Extension):
    """SVM of `cpu`. `monitor` is None while the host is the code that runs in it."""

    table = TABLE

    def __init__(self, cpu: Cpu) -> None:
        super().__init__(cpu)
        self.decode_assists = cpu.model.has("DECODE_ASSISTS")
        self.next_rips = cpu.model.has("NRIPS")
        self.checks = VmrunChecks(cpu)
        self.plans: dict[Key, Plan] = {}
        self.blocks: dict[int, ControlBlock] = {}
        self.asids = Asids(cpu)
        self.monitor: Monitor | None = None
        self.refused_by: str | None = None
        """The name of the check that the last VMRUN failed; None when it entered the guest."""
        self.block = ControlBlock.blank()
        """The VMCB of the last VMRUN."""
        self.gif = True
        self.reset()

    def reset(self) -> None:
        """RESET."""
        self.init_reset()
        self.vm_cr = self.hsave_pa = self.key = 0
        self.tsc_ratio = TSC_RATIO_RESET
        self.host_area = ControlBlock.blank()

    def init_reset(self) -> None:
        """INIT: out of guest mode, with the global interrupt flag set; MSRs stay."""
        self.gif = True
        if self.cpu.guest is not None:
            switch.to_host_mode(self)

    def blocks_init(self) -> bool:
        """INIT is held pending while GIF is clear. APM Vol. 2, Global Interrupt Flag."""
        return not self.gif

    def blocks_events(self) -> bool:
        """So are NMI, SMI and interrupts."""
        return not self.gif

    def set_gif(self, value: bool) -> None:
        """STGI, CLGI, VMRUN and #VMEXIT."""
        self.gif = value
        self.cpu.update_pending()

    def block_at(self, address: int) -> ControlBlock:
        """The VMCB at a physical address; those used last are kept."""
        memory = self.cpu.memory
        block = self.blocks.get(address)
        if block is None or block.host != memory.host(address):
            if len(self.blocks) >= BLOCKS:
                self.blocks.clear()
            block = self.blocks[address] = ControlBlock.at(memory, address)
        return block

    def run(self, block: ControlBlock) -> None:
        """VMRUN: enter the guest of a VMCB, or leave with VMEXIT_INVALID."""
        switch.vmrun(self, block)

    def vmexit(self, guest: SvmGuest) -> None:
        """#VMEXIT, for the reason in `guest.exit`."""
        switch.vmexit(self, guest)

    def exit_report(self) -> ExitReport:
        """The last #VMEXIT."""
        return exit_report(self)

    # MSRs

    def read_msr(self, index: int) -> int | None:
        """VM_CR, VM_HSAVE_PA, TSC_RATIO; the keys read as zero."""
        if index == INDEX["VM_CR"]:
            return self.vm_cr
        if index == INDEX["VM_HSAVE_PA"]:
            return self.hsave_pa
        if index == INDEX["TSC_RATIO"] and self.cpu.model.has("TSC_RATE"):
            return self.tsc_ratio
        if index == INDEX["SVM_KEY"] and self.cpu.model.has("SVM_LOCK"):
            return 0
        return None

    def write_msr(self, index: int, value: int) -> bool:
        """The same; EFER.SVME cannot be set when VM_CR.SVMDIS is."""
        if index == EFER:
            if value & EFER_SVME and self.vm_cr & SVMDIS:
                raise Refused
            return False
        if index == INDEX["VM_CR"]:
            self.write_vm_cr(value)
        elif index == INDEX["VM_HSAVE_PA"]:
            self.write_hsave_pa(value)
        elif index == INDEX["TSC_RATIO"] and self.cpu.model.has("TSC_RATE"):
            if value & ~TSC_RATIO_BITS:
                raise Refused
            self.tsc_ratio = value
        elif index == INDEX["SVM_KEY"] and self.cpu.model.has("SVM_LOCK"):
            self.write_key(value)
        else:
            return False
        return True

    def write_vm_cr(self, value: int) -> None:
        """VM_CR: once locked, LOCK and SVMDIS stay; SVMDIS needs EFER.SVME clear."""
        if value & ~VM_CR_BITS:
            raise Refused
        if self.vm_cr & LOCK:
            value = value & ~(LOCK | SVMDIS) | self.vm_cr & (LOCK | SVMDIS)
        elif value & SVMDIS and self.cpu.state.efer & EFER_SVME:
            raise Refused
        self.vm_cr = value

    def write_hsave_pa(self, value: int) -> None:
        """VM_HSAVE_PA: a page of physical memory."""
        if value & (~int(self.cpu.state.physical_mask) | PAGE_OFFSET):
            raise Refused
        self.hsave_pa = value
        self.host_area = ControlBlock.at(self.cpu.memory, value)

    def write_key(self, value: int) -> None:
        """SVM_KEY: set while unlocked; written again, it unlocks. APM Vol. 2, SVM-Lock."""
        if not self.vm_cr & LOCK:
            self.key = value
        elif self.key and value == self.key:
            self.vm_cr &= ~LOCK

"""vmcs01 and vmcs02 on the emulated processor: what L0 adds before VM entry.

L0's own memory and host state are Python's, so the processor gets constants for the host-state
area, and an EPT of one-to-one 1-GByte pages for vmcs01: guest-physical memory of L1 is the board's.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from emu.kvm.nested_vmx.enter import ENTRY, EXIT, PIN, PROC, PROC2, secondary_controls
from emu.kvm.nested_vmx.masks import Entry, Exit, PinBased, ProcBased, ProcBased2
from emu.kvm.nested_vmx.vmcs_row import PLACES
from emu.vmx.entry import enter
from emu.vmx.exits import Record, save_guest
from emu.vmx.extension import Vmx as Extension
from emu.vmx.region import INDEX, LAUNCHED
from vmcs.vmx.capability_msrs import BY_NAME, allowed0, allowed1

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.kvm.nested_vmx.vmcs_row import HardwareVmcs
    from emu.kvm.running.machine import VirtualCore
    from emu.kvm.vmx import Vmx
    from emu.memory import PhysicalMemory
    from vmcs.vmx.instruction_errors import InstructionError

PAGE: Final = 4096
GIB: Final = 1 << 30
EPT_TABLE, EPT_GIB_PAGE, EPTP_4_LEVELS = 0x7, 0xB7, 0x1E
VPID_OF_L1, VPID_OF_L2 = 1, 2
NO_VMCS: Final = 0xFFFF_FFFF_FFFF_FFFF
LAUNCHED_HEADER: Final = bytes(8) + LAUNCHED.to_bytes(4, "little")

# SDM Vol. 3, Checks on VM-Entry Controls and the Host-State Area: a 64-bit host that passes them.
HOST_STATE: Final = {
    "HOST_CR0": 0x8005_0033,
    "HOST_CR3": 0,
    "HOST_CR4": 0x2020,
    "HOST_IA32_EFER": 0xD01,
    "HOST_IA32_PAT": 0x0007_0406_0007_0406,
    "HOST_CS_SELECTOR": 0x10,
    "HOST_TR_SELECTOR": 0x40,
}

# Controls of KVM's that need something of a host which is not there, or which the vCPU's state in
# the processor makes needless: no host interrupt is acknowledged, MSRs and CR8 always exit.
NEVER_PIN: Final = int(PinBased.PROCESS_POSTED_INTERRUPTS | PinBased.ACTIVATE_VMX_PREEMPTION_TIMER)
NEVER_PROC: Final = int(
    ProcBased.USE_MSR_BITMAPS | ProcBased.USE_IO_BITMAPS | ProcBased.ACTIVATE_TERTIARY_CONTROLS
)
NEVER_PROC2: Final = int(
    ProcBased2.ENABLE_PML
    | ProcBased2.VMCS_SHADOWING
    | ProcBased2.ENABLE_VM_FUNCTIONS
    | ProcBased2.EPT_VIOLATION_VE
    | ProcBased2.USE_TSC_SCALING
)
NEVER_EXIT: Final = int(
    Exit.ACKNOWLEDGE_INTERRUPT_ON_EXIT
    | Exit.SAVE_VMX_PREEMPTION_TIMER_VALUE
    | Exit.LOAD_IA32_PERF_GLOBAL_CTRL
)
ALWAYS_EXIT: Final = int(
    Exit.SAVE_DEBUG_CONTROLS
    | Exit.HOST_ADDRESS_SPACE_SIZE
    | Exit.LOAD_IA32_EFER
    | Exit.LOAD_IA32_PAT
)
NEVER_ENTRY: Final = int(
    Entry.LOAD_IA32_PERF_GLOBAL_CTRL | Entry.ENTRY_TO_SMM | Entry.DEACTIVATE_DUAL_MONITOR_TREATMENT
)
ALWAYS_ENTRY: Final = int(Entry.LOAD_DEBUG_CONTROLS | Entry.LOAD_IA32_EFER | Entry.LOAD_IA32_PAT)
BOUNDS: Final = {
    PIN: "IA32_VMX_TRUE_PINBASED_CTLS",
    PROC: "IA32_VMX_TRUE_PROCBASED_CTLS",
    PROC2: "IA32_VMX_PROCBASED_CTLS2",
    EXIT: "IA32_VMX_TRUE_EXIT_CTLS",
    ENTRY: "IA32_VMX_TRUE_ENTRY_CTLS",
}

# Controls that KVM sets for a guest that has the feature (vmx.c: vmx_secondary_exec_control).
OF_FEATURES: Final = (
    ("RDTSCP", ProcBased2.ENABLE_RDTSCP),
    ("INVPCID", ProcBased2.ENABLE_INVPCID),
    ("XSAVES", ProcBased2.ENABLE_XSAVES_XRSTORS),
    ("WAITPKG", ProcBased2.ENABLE_USER_WAIT_AND_PAUSE),
)


def _parts() -> list[tuple[type, np.ndarray, np.ndarray]]:
    """For each width: its type, the fields' words in the processor, their places in a row."""
    found: list[tuple[type, np.ndarray, np.ndarray]] = []
    for width, kind in ((8, np.uint64), (4, np.uint32), (2, np.uint16)):
        names = [name for name, place in PLACES.items() if place[1] == width and name in INDEX]
        words = np.array([INDEX[name] for name in names], np.int64)
        places = np.array([PLACES[name][0] // width for name in names], np.int64)
        found.append((kind, words, places))
    return found


PARTS: Final = _parts()


def one_to_one_ept(memory: PhysicalMemory) -> int:
    """Tables that map all of `memory` to itself but its last GByte, where they are: the EPTP.

    Processors of a board share them.
    """
    top = memory.pages * PAGE
    tables = top - 2 * PAGE
    if memory.host(tables):
        return tables | EPTP_4_LEVELS
    memory.add_ram(tables, 2 * PAGE)
    pages = [number * GIB | EPT_GIB_PAGE for number in range(top // GIB - 1)]
    memory.load(tables, struct.pack("<Q", tables + PAGE | EPT_TABLE))
    memory.load(tables + PAGE, struct.pack(f"<{len(pages)}Q", *pages))
    return tables | EPTP_4_LEVELS


class VmxHardware:
    """The processor as L0 uses it: VM entry with a VMCS of KVM's, and what an exit left in it."""

    def __init__(self, cpu: Cpu, eptp: int) -> None:
        assert isinstance(cpu.extension, Extension)
        self.cpu, self.extension, self.eptp = cpu, cpu.extension, eptp
        self.bounds = {
            field: self.extension.msrs[BY_NAME[name].number] for field, name in BOUNDS.items()
        }

    @classmethod
    def of(cls, core: VirtualCore) -> VmxHardware:
        """The processor of `core`, with the tables of its board."""
        return cls(core.cpu, one_to_one_ept(core.board.memory))

    def enter(self, vmx: Vmx) -> InstructionError | None:
        """VM entry with the loaded VMCS: a VM-instruction error, None where there is none."""
        extension, loaded = self.extension, vmx.loaded
        extension.on, extension.current, extension.header = True, 0, LAUNCHED_HEADER
        words, row = extension.words, loaded.row
        for kind, indices, places in PARTS:
            words[indices] = row.view(kind)[places]
        for name, value in HOST_STATE.items():
            extension[name] = value
        extension["HOST_RIP"] = 0
        self._controls(vmx)
        extension["GUEST_IA32_EFER"] = vmx.vcpu.efer
        extension["GUEST_DR7"] = vmx.vcpu.debug.dr7
        extension["VMCS_LINK_POINTER"] = NO_VMCS
        self.cpu.state.efer = HOST_STATE["HOST_IA32_EFER"]
        return enter(extension)

    def save(self, loaded: HardwareVmcs) -> None:
        """Guest state and exit information, as a VM exit left them, into KVM's VMCS."""
        words, row = self.extension.words, loaded.row
        kept = {name: loaded[name] for name in BOUNDS}
        for kind, indices, places in PARTS:
            row.view(kind)[places] = words[indices].astype(kind)
        for name, value in kept.items():
            loaded[name] = value
        lma = int(self.extension[ENTRY]) & Entry.IA32E_MODE_GUEST
        loaded[ENTRY] = loaded[ENTRY] & ~Entry.IA32E_MODE_GUEST | lma

    def save_guest(self, loaded: HardwareVmcs) -> None:
        """Guest state of now into KVM's VMCS, without an exit."""
        save_guest(self.extension, Record(0))
        self.save(loaded)

    def _controls(self, vmx: Vmx) -> None:
        """Controls as the processor takes them, with the addresses that they need."""
        extension, nested, loaded = self.extension, vmx.nested, vmx.loaded
        proc = loaded[PROC] & ~NEVER_PROC | ProcBased.ACTIVATE_SECONDARY_CONTROLS
        proc |= ProcBased.UNCONDITIONAL_IO_EXITING
        proc2 = loaded[PROC2] & ~NEVER_PROC2 | ProcBased2.ENABLE_EPT | ProcBased2.ENABLE_VPID
        extension["EPT_POINTER"] = self.eptp
        if nested.guest_mode:
            vmcs12 = nested.vmcs12
            second = secondary_controls(vmcs12)
            if second & ProcBased2.ENABLE_EPT:
                extension["EPT_POINTER"] = vmcs12["EPT_POINTER"]
            for name in ("VIRTUAL_APIC_PAGE_ADDR", "APIC_ACCESS_ADDR"):
                extension[name] = vmcs12[name]
            if not vmcs12[PROC] & ProcBased.MOV_DR_EXITING:
                proc &= ~ProcBased.MOV_DR_EXITING
        else:
            proc &= ~(ProcBased.USE_TPR_SHADOW | ProcBased.MOV_DR_EXITING)
            proc |= ProcBased.CR8_LOAD_EXITING | ProcBased.CR8_STORE_EXITING
            proc2 &= ~ProcBased2.VIRTUALIZE_APIC_ACCESSES
            for feature, control in OF_FEATURES:
                if vmx.vcpu.cpuid.has(feature):
                    proc2 |= control
        extension["VIRTUAL_PROCESSOR_ID"] = VPID_OF_L2 if nested.guest_mode else VPID_OF_L1
        for field, value in (
            (PIN, loaded[PIN] & ~NEVER_PIN),
            (PROC, proc),
            (PROC2, proc2),
            (EXIT, loaded[EXIT] & ~NEVER_EXIT | ALWAYS_EXIT),
            (ENTRY, loaded[ENTRY] & ~NEVER_ENTRY | ALWAYS_ENTRY),
        ):
            bound = self.bounds[field]
            extension[field] = value & allowed1(bound) | allowed0(bound)
        for name in (
            "VM_EXIT_MSR_STORE_COUNT",
            "VM_EXIT_MSR_LOAD_COUNT",
            "VM_ENTRY_MSR_LOAD_COUNT",
        ):
            extension[name] = 0

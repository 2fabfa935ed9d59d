"""A host that runs VMRUN and stops, and a guest of a few bytes: 64-bit, mapped one to one."""

from __future__ import annotations

from emu.cpu.cpu import Cpu, Stop
from emu.cpu.environment import Environment
from emu.cpu.models import MODELS
from emu.cpu.paging import EFER_SVME
from emu.svm.extension import Svm
from emu.svm.vmcb import ControlBlock
from tests.emu.cpu import machines
from tests.emu.cpu.machines import CODE, MEMORY, STACK
from vmcs.svm.control_bits import MiscControl
from vmcs.svm.intercepts import intercept
from vmcs.svm.vmcb import member

GUEST, GUEST_STACK, DATA = 0x50_0000, 0x20_0000, 0x80_0000
VMCB, HSAVE, IOPM, MSRPM = 0x60_0000, 0x60_1000, 0x61_0000, 0x61_4000
NPT, IDT, GDT, HANDLER = 0x70_0000, 0x71_0000, 0x71_2000, 0x72_0000
HLT, VMMCALL = "f4", "0f01d9"
LARGE, USER_WRITABLE = 1 << 7, 7
CODE_64, DATA_SEGMENT = 0x00AF9B000000FFFF, 0x00CF93000000FFFF
STEPS = 10_000


class Time(Environment):
    """A processor whose time is what it has used."""

    cpu: Cpu

    def ticks(self):
        return int(self.cpu.state.retired) + self.cpu.used()


class Rig:
    """A processor with SVM on. The host's handlers and the guest's are in one IDT: HLT each."""

    def __init__(self, model="zen3"):
        memory = machines.PhysicalMemory()
        memory.add_ram(0, MEMORY)
        environment = Time()
        self.cpu = environment.cpu = Cpu(memory, None, MODELS[model], environment)
        self.memory, self.state = memory, self.cpu.state
        self.svm = self.cpu.extension = Svm(self.cpu)
        machines.begin(self.cpu, 64)
        self.state.efer |= EFER_SVME
        self.state.rsp = STACK
        self.svm.write_hsave_pa(HSAVE)
        self.vmcb = ControlBlock.at(memory, VMCB)
        self.write_tables()
        self.fill()

    def write_tables(self):
        """Nested page tables with 2-MByte pages; an IDT whose handlers are HLT; a GDT."""
        load, word = self.memory.load, lambda value: value.to_bytes(8, "little")
        load(NPT, word(NPT + 0x1000 | USER_WRITABLE))
        load(NPT + 0x1000, word(NPT + 0x2000 | USER_WRITABLE))
        for i in range(MEMORY >> 21):
            load(NPT + 0x2000 + 8 * i, word(i << 21 | LARGE | USER_WRITABLE))
        load(GDT, word(0) + word(CODE_64) + word(DATA_SEGMENT))
        for vector in range(256):
            handler = HANDLER + 16 * vector
            load(IDT + 16 * vector, word(handler & 0xFFFF | 8 << 16 | 0x8E << 40) + word(0))
            load(IDT + 16 * vector + 6, (handler >> 16).to_bytes(2, "little"))
            load(handler, bytes.fromhex(HLT))
        state = self.state
        state.idtr_base, state.idtr_limit = IDT, 0xFFF
        state.gdtr_base, state.gdtr_limit = GDT, 0x17
        state.selector[1], state.selector[2] = 8, 16

    def fill(self):
        """A VMCB with the host's state, intercepting VMRUN and VMMCALL."""
        vmcb, state = self.vmcb, self.state
        for number, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs")):
            rights = int(state.segment_rights[number])
            vmcb[f"{name}.selector"] = state.selector[number]
            vmcb[f"{name}.attrib"] = rights & 0xFF | rights >> 4 & 0xF00
            vmcb[f"{name}.limit"] = state.segment_limit[number]
        for name in ("gdtr", "idtr"):
            vmcb[f"{name}.base"] = getattr(state, f"{name}_base")
            vmcb[f"{name}.limit"] = getattr(state, f"{name}_limit")
        for name in ("cr0", "cr3", "cr4", "efer"):
            vmcb[name] = getattr(state, name)
        vmcb["dr6"], vmcb["dr7"], vmcb["rflags"] = 0xFFFF0FF0, 0x400, 2
        vmcb["rip"], vmcb["rsp"], vmcb["asid"] = GUEST, GUEST_STACK, 1
        vmcb["iopm_base_pa"], vmcb["msrpm_base_pa"] = IOPM, MSRPM
        vmcb["g_pat"] = 0x0007_0406_0007_0406
        self.intercept("VMRUN", "VMMCALL")

    def intercept(self, *names):
        """Set intercepts."""
        place = member("intercepts").offset
        for name in names:
            row = intercept(name)
            at = place + row.position // 8
            self.vmcb.data[at] |= 1 << row.position % 8

    def nest(self):
        """Turn nested paging on."""
        self.vmcb["misc_ctl"] |= MiscControl.NP_ENABLE
        self.vmcb["nested_cr3"] = NPT

    def npt_entry(self, gpa, clear=0, set_=0):
        """Change the entry that maps a guest-physical address."""
        place = NPT + 0x2000 + 8 * (gpa >> 21)
        entry = int.from_bytes(self.memory.read(place, 8), "little")
        self.memory.write(place, (entry & ~clear | set_).to_bytes(8, "little"))

    def run(self, guest=None, host="0f01d8f4", gif=True):
        """VMRUN a guest of the given bytes, or on where it left; the exit code.

        The host code is VMRUN, HLT where nothing else is given; it begins with `gif`.
        """
        state = self.state
        if guest is not None:
            self.memory.write(GUEST, bytes.fromhex(guest))
            self.vmcb["rip"] = GUEST
        self.memory.write(CODE, bytes.fromhex(host))
        state.rax, state.rip, state.rsp = VMCB, CODE, STACK
        self.cpu.halted = False
        self.svm.set_gif(gif)
        self.stop = self.cpu.run(STEPS)
        while self.stop is Stop.YIELD:
            self.stop = self.cpu.run(STEPS)
        return self.vmcb["exit_code"]

    @property
    def exited(self):
        """Whether the host has gone on after its VMRUN."""
        return self.stop is Stop.HALT and self.cpu.guest is None

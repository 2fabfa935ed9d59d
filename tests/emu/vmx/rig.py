"""A processor in 64-bit mode with VMX, and a VMCS with which VM entry succeeds."""

from __future__ import annotations

from emu.cpu.cpu import Cpu, Stop
from emu.cpu.errors import Fault
from emu.cpu.paging import CR0_NE, CR4_VMXE
from emu.cpu.state import SS, TR
from emu.vmx import Vmx
from vmcs.vmx.controls import Entry, Exit, ProcBased
from vmcs.vmx.fields import BY_NAME

from ..cpu import machines
from ..cpu.machines import CODE, DATA, STACK

VMXON_REGION, VMCS_REGION, OTHER_REGION = 0xB00000, 0xB01000, 0xB02000
OPERAND = DATA
GUEST_CODE, HOST_CODE = 0x500000, 0x501000
GUEST_STACK = 0x310000
GDT, IDT, TASK = 0x600000, 0x601000, 0x602000
FEATURE_CONTROL = 0x3A

# instructions with [rbx] as operand
VMXON, VMCLEAR, VMPTRLD, VMPTRST = "f30fc733", "660fc733", "0fc733", "0fc73b"
VMREAD, VMWRITE = "0f78d8", "0f79d8"  # vmread rax, rbx; vmwrite rbx, rax
VMLAUNCH, VMRESUME, VMXOFF, VMCALL, VMFUNC = "0f01c2", "0f01c3", "0f01c4", "0f01c1", "0f01d4"
INVEPT, INVVPID = "660f388003", "660f388103"  # rax, [rbx]

CF, ZF = 1, 0x40
CODE_RIGHTS, DATA_RIGHTS, TASK_RIGHTS = 0xA09B, 0xC093, 0x8B


class DeliveringCpu(machines.RecordingCpu):
    """A processor that delivers faults in guest mode, and outside of it lets `run` raise them."""

    def raised(self, fault):
        if self.guest is None:
            self.fault = fault
            raise fault
        Cpu.raised(self, fault)


class Rig:
    """The processor, and the steps of a hypervisor."""

    def __init__(self):
        original = machines.RecordingCpu
        machines.RecordingCpu = DeliveringCpu
        try:
            self.cpu = machines.machine(64)
        finally:
            machines.RecordingCpu = original
        cpu, state = self.cpu, self.cpu.state
        self.vmx = cpu.extension = Vmx(cpu)
        cpu.msrs[FEATURE_CONTROL] = 5
        state.cr0 |= CR0_NE
        state.cr4 |= CR4_VMXE
        state.selector[TR], state.segment_rights[TR] = 0x18, TASK_RIGHTS
        state.segment_base[TR], state.segment_limit[TR] = TASK, 0x67
        state.gdtr_base, state.gdtr_limit = GDT, 0xFFFF
        state.idtr_base, state.idtr_limit = IDT, 0xFFF
        for region in (VMXON_REGION, VMCS_REGION, OTHER_REGION):
            cpu.memory.load(region, self.vmx.revision.to_bytes(4, "little"))
        state.rsp, state.rbx = STACK, OPERAND
        cpu.refresh()

    def do(self, code, operand=None, **registers):
        """Run one instruction; CF and ZF, or the vector of the fault."""
        cpu = self.cpu
        if operand is not None:
            cpu.memory.load(OPERAND, operand.to_bytes(16, "little"))
        for name, value in registers.items():
            setattr(cpu.state, name, value)
        cpu.memory.load(CODE, bytes.fromhex(code))
        cpu.state.rip = CODE
        try:
            cpu.run(1)
        except Fault as fault:
            return f"fault {fault.vector}"
        return cpu.rflags & (CF | ZF)

    def error(self):
        """The VM-instruction error."""
        return self.vmx["VM_INSTRUCTION_ERROR"]

    def turn_on(self):
        """VMXON, VMCLEAR and VMPTRLD."""
        assert self.do(VMXON, VMXON_REGION) == 0
        assert self.do(VMCLEAR, VMCS_REGION) == 0
        assert self.do(VMPTRLD, VMCS_REGION) == 0

    def set(self, **fields):
        """Fields of the current VMCS."""
        for name, value in fields.items():
            assert name in BY_NAME
            self.vmx[name] = value

    def set_up(self):
        """A 64-bit guest at GUEST_CODE and a host at HOST_CODE, both with our tables."""
        self.turn_on()
        vmx, state = self.vmx, self.cpu.state
        must = {
            word: vmx.capability(f"IA32_VMX_TRUE_{word}_CTLS") & 0xFFFFFFFF
            for word in ("PINBASED", "PROCBASED", "EXIT", "ENTRY")
        }
        self.set(
            PIN_BASED_VM_EXEC_CONTROL=must["PINBASED"],
            CPU_BASED_VM_EXEC_CONTROL=must["PROCBASED"] | ProcBased.HLT_EXITING,
            VM_EXIT_CONTROLS=must["EXIT"] | Exit.HOST_ADDRESS_SPACE_SIZE,
            VM_ENTRY_CONTROLS=must["ENTRY"] | Entry.IA32E_MODE_GUEST,
            VMCS_LINK_POINTER=(1 << 64) - 1,
        )
        for side, rip, rsp in (("GUEST", GUEST_CODE, GUEST_STACK), ("HOST", HOST_CODE, STACK)):
            self.set(
                **{
                    f"{side}_CR0": int(state.cr0),
                    f"{side}_CR3": int(state.cr3),
                    f"{side}_CR4": int(state.cr4),
                    f"{side}_RIP": rip,
                    f"{side}_RSP": rsp,
                    f"{side}_GDTR_BASE": GDT,
                    f"{side}_IDTR_BASE": IDT,
                    f"{side}_TR_SELECTOR": 0x18,
                    f"{side}_TR_BASE": TASK,
                    **{f"{side}_{s}_SELECTOR": 0x10 for s in ("ES", "SS", "DS", "FS", "GS")},
                    f"{side}_CS_SELECTOR": 0x8,
                }
            )
        for name in ("ES", "SS", "DS", "FS", "GS"):
            self.set(**{f"GUEST_{name}_AR_BYTES": DATA_RIGHTS})
        self.set(
            GUEST_CS_AR_BYTES=CODE_RIGHTS,
            GUEST_TR_AR_BYTES=TASK_RIGHTS,
            GUEST_LDTR_AR_BYTES=1 << 16,
            **{f"GUEST_{s}_LIMIT": 0xFFFFFFFF for s in ("ES", "CS", "SS", "DS", "FS", "GS")},
            GUEST_TR_LIMIT=0x67,
            GUEST_GDTR_LIMIT=0xFFFF,
            GUEST_IDTR_LIMIT=0xFFF,
            GUEST_RFLAGS=2,
        )
        assert state.segment_rights[SS] == DATA_RIGHTS
        self.cpu.memory.load(HOST_CODE, b"\xf4")

    def enter(self, code="", again=False, limit=1000):
        """VM entry into `code`, up to the exit; the exit reason, None when there was none."""
        cpu = self.cpu
        cpu.memory.load(GUEST_CODE, bytes.fromhex(code) + b"\xf4")
        cpu.memory.load(CODE, bytes.fromhex(VMRESUME if again else VMLAUNCH))
        cpu.state.rip = CODE
        cpu.halted, cpu.fault = False, None
        self.vmx["VM_EXIT_REASON"] = 0xFFFF
        while cpu.run(limit) is Stop.YIELD:
            pass
        reason = self.vmx["VM_EXIT_REASON"]
        return None if reason == 0xFFFF else reason

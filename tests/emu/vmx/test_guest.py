"""VMX non-root operation: what exits, with which reason, qualification and length."""

from __future__ import annotations

import pytest

from vmcs.vmx.controls import PinBased, ProcBased, ProcBased2
from vmcs.vmx.exit_reasons import ExitReason

from .rig import GUEST_CODE, HOST_CODE, Rig

P1, P2 = ProcBased, ProcBased2


@pytest.fixture
def rig():
    rig = Rig()
    rig.set_up()
    return rig


def secondary(rig, controls):
    rig.vmx["CPU_BASED_VM_EXEC_CONTROL"] |= P1.ACTIVATE_SECONDARY_CONTROLS
    rig.vmx["SECONDARY_VM_EXEC_CONTROL"] |= int(controls)


ALWAYS = [
    ("0fa2", "CPUID"),
    ("0f08", "INVD"),
    ("0f01c1", "VMCALL"),
    ("0f01c2", "VMLAUNCH"),
    ("0f01c3", "VMRESUME"),
    ("0f01c4", "VMXOFF"),
    ("0f32", "RDMSR"),
    ("0f30", "WRMSR"),
    ("0f78d8", "VMREAD"),
    ("0f79d8", "VMWRITE"),
    ("f30fc733", "VMXON"),
    ("660fc733", "VMCLEAR"),
    ("0fc733", "VMPTRLD"),
    ("0fc73b", "VMPTRST"),
    ("660f388003", "INVEPT"),
    ("660f388103", "INVVPID"),
    ("f4", "HLT"),
]
PRIMARY = [
    ("f390", "PAUSE", P1.PAUSE_EXITING, 0),
    ("0f31", "RDTSC", P1.RDTSC_EXITING, 0),
    ("0f33", "RDPMC", P1.RDPMC_EXITING, 0),
    ("0f013b", "INVLPG", P1.INVLPG_EXITING, 0x800000),
    ("0f01c8", "MONITOR", P1.MONITOR_EXITING, 0),
    ("0f01c9", "MWAIT", P1.MWAIT_EXITING, 0),
    ("0f20d8", "CR_ACCESS", P1.CR3_STORE_EXITING, 0x13),
    ("0f22d9", "CR_ACCESS", P1.CR3_LOAD_EXITING, 0x103),
    ("440f20c0", "CR_ACCESS", P1.CR8_STORE_EXITING, 0x18),
    ("440f22c1", "CR_ACCESS", P1.CR8_LOAD_EXITING, 0x108),
    ("0f21f8", "MOV_DR", P1.MOV_DR_EXITING, 0x17),
    ("0f23f9", "MOV_DR", P1.MOV_DR_EXITING, 0x107),
    ("e460", "IO_INSTRUCTION", P1.UNCONDITIONAL_IO_EXITING, 0x60_0048),
    ("66ef", "IO_INSTRUCTION", P1.UNCONDITIONAL_IO_EXITING, 1),
]
SECONDARY = [
    ("0f09", "WBINVD", P2.WBINVD_EXITING),
    ("0fc7f0", "RDRAND", P2.RDRAND_EXITING),
    ("0fc7f8", "RDSEED", P2.RDSEED_EXITING),
    ("0f0103", "GDTR_OR_IDTR_ACCESS", P2.DESCRIPTOR_TABLE_EXITING),
    ("0f011b", "GDTR_OR_IDTR_ACCESS", P2.DESCRIPTOR_TABLE_EXITING),
    ("0f00c8", "LDTR_OR_TR_ACCESS", P2.DESCRIPTOR_TABLE_EXITING),
]


@pytest.mark.parametrize(("code", "reason"), ALWAYS)
def test_an_instruction_that_always_exits(rig, code, reason):
    rig.cpu.state.rbx = 0x800000

    assert ExitReason[reason] == rig.enter("90" + code)
    assert GUEST_CODE + 1 == rig.vmx["GUEST_RIP"]
    assert len(code) // 2 == rig.vmx["VM_EXIT_INSTRUCTION_LEN"]
    assert HOST_CODE + 1 == rig.cpu.state.rip


@pytest.mark.parametrize(("code", "reason", "control", "qualification"), PRIMARY)
def test_an_instruction_that_exits_under_a_primary_control(
    rig, code, reason, control, qualification
):
    rig.cpu.state.rbx, rig.cpu.state.rdx = 0x800000, 0
    rig.cpu.state.rcx = int(rig.cpu.state.cr3) if code == "0f22d9" else 0
    first = rig.enter("90" + code) if code not in ("0f33", "0f01c9") else ExitReason.HLT

    assert ExitReason.HLT == first
    rig.vmx["CPU_BASED_VM_EXEC_CONTROL"] |= int(control)
    rig.set(GUEST_RIP=GUEST_CODE)
    assert ExitReason[reason] == rig.enter("90" + code, again=rig.vmx.launch_state == 1)
    assert qualification == rig.vmx["EXIT_QUALIFICATION"]


@pytest.mark.parametrize(("code", "reason", "control"), SECONDARY)
def test_an_instruction_that_exits_under_a_secondary_control(rig, code, reason, control):
    rig.cpu.state.rbx = 0x800000
    assert ExitReason.HLT == rig.enter(code)
    secondary(rig, control)
    rig.set(GUEST_RIP=GUEST_CODE)

    assert ExitReason[reason] == rig.enter(code, again=True)


@pytest.mark.parametrize(
    ("code", "control"),
    [("0f01f9", P2.ENABLE_RDTSCP), ("660f388203", P2.ENABLE_INVPCID), ("0fc72b", 0)],
)
def test_an_instruction_is_undefined_without_its_control(rig, code, control):
    rig.set(EXCEPTION_BITMAP=1 << 6)
    rig.cpu.state.rbx = 0x810000

    assert ExitReason.EXCEPTION_OR_NMI == rig.enter(code)
    assert 6 == rig.vmx["VM_EXIT_INTR_INFO"] & 0xFF
    if control:
        secondary(rig, control)
        rig.set(GUEST_RIP=GUEST_CODE)
        assert ExitReason.HLT == rig.enter(code, again=True)


@pytest.mark.parametrize("number", [0, 4])
def test_bits_of_a_control_register_belong_to_the_host(rig, number):
    bit = {0: 1 << 18, 4: 1 << 2}[number]
    own = rig.vmx[f"GUEST_CR{number}"]
    rig.set(**{f"CR{number}_GUEST_HOST_MASK": bit, f"CR{number}_READ_SHADOW": own | bit})
    read, write = {0: ("0f20c0", "0f22c0"), 4: ("0f20e0", "0f22e0")}[number]

    assert ExitReason.HLT == rig.enter(read + write)  # what is read can be written
    assert own | bit == rig.cpu.state.rax
    assert own == rig.vmx[f"GUEST_CR{number}"]
    rig.cpu.state.rax = own
    rig.set(GUEST_RIP=GUEST_CODE)
    assert ExitReason.CR_ACCESS == rig.enter(write, again=True)
    assert number == rig.vmx["EXIT_QUALIFICATION"]


def test_clts_and_lmsw_under_the_mask(rig):
    rig.set(CR0_GUEST_HOST_MASK=8, CR0_READ_SHADOW=8)
    assert ExitReason.CR_ACCESS == rig.enter("0f06")
    assert 0x20 == rig.vmx["EXIT_QUALIFICATION"]

    rig.set(GUEST_RIP=GUEST_CODE)
    rig.cpu.state.rax = 1
    assert ExitReason.CR_ACCESS == rig.enter("0f01f0", again=True)
    assert 0x1_0030 == rig.vmx["EXIT_QUALIFICATION"]


def test_values_of_cr3_can_be_targets(rig):
    rig.vmx["CPU_BASED_VM_EXEC_CONTROL"] |= P1.CR3_LOAD_EXITING
    cr3 = int(rig.cpu.state.cr3)
    rig.set(CR3_TARGET_COUNT=1, CR3_TARGET_VALUE0=cr3)
    rig.cpu.state.rax = cr3

    assert ExitReason.HLT == rig.enter("0f22d8")


@pytest.mark.parametrize(("index", "place"), [(0x10, 0x002), (0xC000_0081, 0x410)])
def test_the_msr_bitmaps_decide(rig, index, place):
    rig.vmx["CPU_BASED_VM_EXEC_CONTROL"] |= P1.USE_MSR_BITMAPS
    rig.set(MSR_BITMAP=0xC00000)
    rig.cpu.state.rcx = index

    assert ExitReason.HLT == rig.enter("0f32")
    rig.cpu.memory.load(0xC00000 + place, bytes([1 << index % 8]))
    rig.set(GUEST_RIP=GUEST_CODE)
    assert ExitReason.RDMSR == rig.enter("0f32", again=True)


def test_the_io_bitmaps_decide(rig):
    rig.vmx["CPU_BASED_VM_EXEC_CONTROL"] |= P1.USE_IO_BITMAPS
    rig.set(IO_BITMAP_A=0xC00000, IO_BITMAP_B=0xC01000)
    rig.cpu.memory.load(0xC00000 + 0x61 // 8, bytes([1 << 1]))

    assert ExitReason.HLT == rig.enter("e462")
    rig.set(GUEST_RIP=GUEST_CODE)
    assert ExitReason.IO_INSTRUCTION == rig.enter("66e560", again=True)
    rig.cpu.state.rdx = 0xFFFF
    rig.set(GUEST_RIP=GUEST_CODE)
    assert ExitReason.IO_INSTRUCTION == rig.enter("66ed", again=True)


@pytest.mark.parametrize(("mask", "match", "exits"), [(0, 0, True), (1, 1, False), (1, 0, True)])
def test_page_faults_are_chosen_by_their_error_code(rig, mask, match, exits):
    rig.set(EXCEPTION_BITMAP=1 << 14)
    rig.set(PAGE_FAULT_ERROR_CODE_MASK=mask, PAGE_FAULT_ERROR_CODE_MATCH=match)
    rig.cpu.state.rbx = 0x7000_0000
    before = int(rig.cpu.state.cr2)

    reason = rig.enter("8b03")
    assert exits == (reason == ExitReason.EXCEPTION_OR_NMI)
    if exits:
        assert (0x7000_0000, before) == (rig.vmx["EXIT_QUALIFICATION"], rig.cpu.state.cr2)
        assert 0x8000_0B0E == rig.vmx["VM_EXIT_INTR_INFO"]
    else:
        assert ExitReason.TRIPLE_FAULT == reason


def test_the_monitor_trap_flag_exits_after_each_instruction(rig):
    rig.vmx["CPU_BASED_VM_EXEC_CONTROL"] |= P1.MONITOR_TRAP_FLAG

    assert ExitReason.MONITOR_TRAP_FLAG == rig.enter("90 48ffc0")
    assert GUEST_CODE + 1 == rig.vmx["GUEST_RIP"]
    assert ExitReason.MONITOR_TRAP_FLAG == rig.enter("90 48ffc0", again=True)
    assert GUEST_CODE + 4 == rig.vmx["GUEST_RIP"]


def test_the_interrupt_window_opens_after_the_shadow_of_sti(rig):
    rig.vmx["CPU_BASED_VM_EXEC_CONTROL"] |= P1.INTERRUPT_WINDOW_EXITING

    assert ExitReason.INTERRUPT_WINDOW == rig.enter("90 fb 90 90")
    assert GUEST_CODE + 3 == rig.vmx["GUEST_RIP"]


def test_external_interrupts_exit_whatever_rflags_if_is(rig):
    rig.vmx["PIN_BASED_VM_EXEC_CONTROL"] |= PinBased.EXTERNAL_INTERRUPT_EXITING
    rig.cpu.acknowledge = lambda: 0x33
    rig.cpu.interrupt_pending = True

    assert ExitReason.EXTERNAL_INTERRUPT == rig.enter("90")
    assert (GUEST_CODE, 0) == (rig.vmx["GUEST_RIP"], rig.vmx["VM_EXIT_INTR_INFO"])


def test_nmis_exit_and_block_nmis(rig):
    rig.vmx["PIN_BASED_VM_EXEC_CONTROL"] |= PinBased.NMI_EXITING
    rig.cpu.nmi_pending = True

    assert ExitReason.EXCEPTION_OR_NMI == rig.enter("90")
    assert 0x8000_0202 == rig.vmx["VM_EXIT_INTR_INFO"]
    assert rig.cpu.nmi_blocked


def test_the_time_stamp_counter_is_scaled_and_offset(rig):
    rig.cpu.environment.ticks = lambda: 1000
    rig.vmx["CPU_BASED_VM_EXEC_CONTROL"] |= P1.USE_TSC_OFFSETTING
    secondary(rig, P2.USE_TSC_SCALING)
    rig.set(TSC_MULTIPLIER=3 << 47, TSC_OFFSET=77)

    assert ExitReason.HLT == rig.enter("0f31")
    assert 1577 == rig.cpu.state.rax


def test_cr8_goes_to_the_virtual_apic_page(rig):
    rig.vmx["CPU_BASED_VM_EXEC_CONTROL"] |= P1.USE_TPR_SHADOW
    rig.set(VIRTUAL_APIC_PAGE_ADDR=0xC00000, TPR_THRESHOLD=0)
    rig.cpu.state.rax = 9

    assert ExitReason.HLT == rig.enter("440f22c0 440f20c3")
    assert (9, 0x90) == (rig.cpu.state.rbx, rig.cpu.memory.read(0xC00080, 1)[0])
    rig.set(GUEST_RIP=GUEST_CODE, TPR_THRESHOLD=5)
    rig.cpu.state.rax = 4
    assert ExitReason.TPR_BELOW_THRESHOLD == rig.enter("440f22c0 440f20c3", again=True)
    assert GUEST_CODE + 4 == rig.vmx["GUEST_RIP"]

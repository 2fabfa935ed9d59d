"""VM entry: its checks, what it loads, the event that it injects."""

from __future__ import annotations

import struct

import pytest

from vmcs.vmx.controls import Entry
from vmcs.vmx.exit_reasons import ExitReason
from vmcs.vmx.instruction_errors import InstructionError

from .rig import GUEST_CODE, GUEST_STACK, HOST_CODE, IDT, VMCS_REGION, VMLAUNCH, VMRESUME, ZF, Rig

FAILED = 1 << 31
HANDLER = 0x604000
VALID, CODE_VALID = 1 << 31, 1 << 11
EXTERNAL, NMI, HARDWARE, SOFTWARE, SOFT_EXCEPTION, OTHER = (n << 8 for n in (0, 2, 3, 4, 6, 7))


@pytest.fixture
def rig():
    rig = Rig()
    rig.set_up()
    rig.cpu.memory.load(HANDLER - 0x1000 + 8, b"")
    rig.cpu.memory.load(0x600000 + 8, (0x00AF9B000000FFFF).to_bytes(8, "little"))
    for vector in range(256):
        target = HANDLER + vector
        gate = struct.pack("<HHBBHII", target & 0xFFFF, 8, 0, 0x8E, target >> 16, 0, 0)
        rig.cpu.memory.load(IDT + 16 * vector, gate)
    rig.cpu.memory.load(HANDLER, b"\xf4" * 256)
    return rig


def test_the_guest_runs_until_it_exits(rig):
    assert ExitReason.HLT == rig.enter("48c7c034120000")
    assert (0x1234, GUEST_CODE + 7) == (rig.cpu.state.rax, rig.vmx["GUEST_RIP"])
    assert HOST_CODE + 1 == rig.cpu.state.rip
    assert 1 == rig.vmx["VM_EXIT_INSTRUCTION_LEN"]


def test_the_launch_state_decides_between_vmlaunch_and_vmresume(rig):
    assert ZF == rig.do(VMRESUME)
    assert InstructionError.VMRESUME_NON_LAUNCHED_VMCS == rig.error()
    rig.cpu.halted = False
    assert ExitReason.HLT == rig.enter()
    rig.cpu.halted = False
    assert ZF == rig.do(VMLAUNCH)
    assert InstructionError.VMLAUNCH_NON_CLEAR_VMCS == rig.error()
    assert ExitReason.HLT == rig.enter(again=True)


def test_mov_ss_before_vmlaunch_makes_it_fail(rig):
    rig.cpu.memory.load(0x400000, bytes.fromhex("8ed0" + VMLAUNCH))
    rig.cpu.state.rip, rig.cpu.state.rax = 0x400000, 0x10
    rig.cpu.memory.load(0x600000 + 0x10, (0x00CF93000000FFFF).to_bytes(8, "little"))
    rig.cpu.run(2)

    assert InstructionError.ENTRY_EVENTS_BLOCKED_BY_MOV_SS == rig.error()


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("PIN_BASED_VM_EXEC_CONTROL", 0, 7),
        ("CPU_BASED_VM_EXEC_CONTROL", 0, 7),
        ("CR3_TARGET_COUNT", 5, 7),
        ("VM_ENTRY_MSR_LOAD_COUNT", 1 << 31, 7),
        ("HOST_CR0", 0, 8),
        ("HOST_RIP", 1 << 47, 8),
        ("HOST_TR_SELECTOR", 0, 8),
    ],
)
def test_a_wrong_control_or_host_field_fails_the_instruction(rig, field, value, error):
    rig.set(**{field: value})
    if field == "VM_ENTRY_MSR_LOAD_COUNT":
        rig.set(VM_ENTRY_MSR_LOAD_ADDR=8)

    assert ZF == rig.do(VMLAUNCH)
    assert error == rig.error()


@pytest.mark.parametrize(
    ("field", "value", "qualification"),
    [
        ("GUEST_CR0", 0x21, 0),
        ("GUEST_RFLAGS", 0, 0),
        ("GUEST_TR_AR_BYTES", 0x10000, 0),
        ("GUEST_ACTIVITY_STATE", 4, 0),
        ("VMCS_LINK_POINTER", 8, 4),
        ("VMCS_LINK_POINTER", VMCS_REGION + 0x100000, 4),
    ],
)
def test_wrong_guest_state_exits_to_the_host(rig, field, value, qualification):
    rig.set(**{field: value})

    assert FAILED | ExitReason.INVALID_GUEST_STATE == rig.enter()
    assert qualification == rig.vmx["EXIT_QUALIFICATION"]
    assert HOST_CODE + 1 == rig.cpu.state.rip
    assert 0 == rig.vmx.launch_state


def test_msrs_are_loaded_and_stored(rig):
    area, out = 0xC00000, 0xC01000
    star = 0xC000_0081
    rig.cpu.memory.load(area, struct.pack("<IIQ", star, 0, 0x1122))
    rig.cpu.memory.load(out, struct.pack("<IIQ", star, 0, 0))
    rig.set(VM_ENTRY_MSR_LOAD_ADDR=area, VM_ENTRY_MSR_LOAD_COUNT=1)
    rig.set(VM_EXIT_MSR_STORE_ADDR=out, VM_EXIT_MSR_STORE_COUNT=1)

    assert ExitReason.HLT == rig.enter()
    assert 0x1122 == struct.unpack("<IIQ", rig.cpu.memory.read(out, 16))[2]


@pytest.mark.parametrize(
    "entry", [(0xC000_0100, 0, 0), (0x808, 0, 0), (0x8B, 0, 0), (0x10, 1, 0), (0x277, 0, 2)]
)
def test_an_msr_that_cannot_be_loaded_fails_the_entry(rig, entry):
    area = 0xC00000
    rig.cpu.memory.load(area, struct.pack("<IIQ", 0xC000_0081, 0, 1) + struct.pack("<IIQ", *entry))
    rig.set(VM_ENTRY_MSR_LOAD_ADDR=area, VM_ENTRY_MSR_LOAD_COUNT=2)

    assert FAILED | ExitReason.MSR_LOADING == rig.enter()
    assert 2 == rig.vmx["EXIT_QUALIFICATION"]


@pytest.mark.parametrize(
    ("information", "code", "length", "rip"),
    [
        (VALID | EXTERNAL | 0x55, None, 0, GUEST_CODE),
        (VALID | NMI | 2, None, 0, GUEST_CODE),
        (VALID | HARDWARE | 6, None, 0, GUEST_CODE),
        (VALID | HARDWARE | CODE_VALID | 13, 0x18, 0, GUEST_CODE),
        (VALID | SOFTWARE | 0x80, None, 2, GUEST_CODE + 2),
        (VALID | SOFT_EXCEPTION | 3, None, 1, GUEST_CODE + 1),
    ],
)
def test_an_event_is_injected(rig, information, code, length, rip):
    rig.set(VM_ENTRY_INTR_INFO_FIELD=information, VM_ENTRY_INSTRUCTION_LEN=length)
    rig.set(GUEST_RFLAGS=0x202)
    if code is not None:
        rig.set(VM_ENTRY_EXCEPTION_ERROR_CODE=code)

    assert ExitReason.HLT == rig.enter()
    assert HANDLER + (information & 0xFF) == rig.vmx["GUEST_RIP"]
    frame = GUEST_STACK - 40 - (8 if code is not None else 0)
    assert frame == rig.vmx["GUEST_RSP"]
    assert rip == rig.cpu.read(frame + (8 if code is not None else 0), 8)
    if code is not None:
        assert code == rig.cpu.read(frame, 8)
    assert 0 == rig.vmx["VM_ENTRY_INTR_INFO_FIELD"] & VALID


def test_a_fault_while_an_event_is_injected_names_the_event(rig):
    rig.set(VM_ENTRY_INTR_INFO_FIELD=VALID | SOFTWARE | 0x80, VM_ENTRY_INSTRUCTION_LEN=2)
    rig.set(GUEST_IDTR_LIMIT=0xFF, EXCEPTION_BITMAP=1 << 13)

    assert ExitReason.EXCEPTION_OR_NMI == rig.enter()
    assert VALID | HARDWARE | CODE_VALID | 13 == rig.vmx["VM_EXIT_INTR_INFO"]
    assert VALID | SOFTWARE | 0x80 == rig.vmx["IDT_VECTORING_INFO_FIELD"]
    assert (GUEST_CODE, 2) == (rig.vmx["GUEST_RIP"], rig.vmx["VM_EXIT_INSTRUCTION_LEN"])


def test_the_other_event_is_the_monitor_trap(rig):
    rig.set(VM_ENTRY_INTR_INFO_FIELD=VALID | OTHER)

    assert ExitReason.MONITOR_TRAP_FLAG == rig.enter("90")
    assert GUEST_CODE == rig.vmx["GUEST_RIP"]


def test_efer_follows_the_entry_control_or_its_field(rig):
    rig.enter()

    assert 0x500 == rig.cpu.state.efer & 0x500
    rig.vmx["VM_ENTRY_CONTROLS"] |= Entry.LOAD_IA32_EFER
    rig.set(GUEST_IA32_EFER=0xD01)
    rig.enter("b9800000c0 0f32", again=True)
    assert ExitReason.RDMSR == rig.vmx["VM_EXIT_REASON"]

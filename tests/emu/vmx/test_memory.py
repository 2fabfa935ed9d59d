"""EPT in VMX non-root operation: violations, misconfigurations, #VE, the log, EPTP switching."""

from __future__ import annotations

import pytest

from vmcs.vmx.controls import ProcBased, ProcBased2
from vmcs.vmx.exit_reasons import ExitReason

from .rig import GUEST_CODE, Rig

ROOT, OTHER_ROOT, LOG, AREA, LIST = 0xA00000, 0xA10000, 0xC00000, 0xC01000, 0xC02000
PAGE = 0x800000  # of 2 MByte, the one whose entry the tests change
LEAF = ROOT + 0x2000 + 8 * (PAGE >> 21)
POINTER = 3 << 3 | 6
SUPPRESS = 1 << 63


def tables(memory, root):
    """Map 16 MByte one to one with pages of 2 MByte."""
    memory.load(root, (root + 0x1000 | 7).to_bytes(8, "little"))
    memory.load(root + 0x1000, (root + 0x2000 | 7).to_bytes(8, "little"))
    for i in range(8):
        memory.load(root + 0x2000 + 8 * i, (i << 21 | 0xB7).to_bytes(8, "little"))


@pytest.fixture
def rig():
    rig = Rig()
    rig.set_up()
    for root in (ROOT, OTHER_ROOT):
        tables(rig.cpu.memory, root)
    rig.vmx["CPU_BASED_VM_EXEC_CONTROL"] |= ProcBased.ACTIVATE_SECONDARY_CONTROLS
    rig.set(SECONDARY_VM_EXEC_CONTROL=int(ProcBased2.ENABLE_EPT), EPT_POINTER=ROOT | POINTER)
    rig.cpu.state.rbx = PAGE + 0x123
    return rig


def leaf(rig, value):
    rig.cpu.memory.load(LEAF, value.to_bytes(8, "little"))


def test_the_guest_runs_on_ept(rig):
    assert ExitReason.HLT == rig.enter("8b03 8903")


@pytest.mark.parametrize(
    ("code", "rights", "qualification"),
    [("8b03", 0, 0x181), ("8903", 0, 0x182), ("8903", 5, 0x1AA), ("ffe3", 3, 0x19C)],
)
def test_a_violation_exits(rig, code, rights, qualification):
    leaf(rig, PAGE | 0xB0 | rights if rights else 0)

    assert ExitReason.EPT_VIOLATION == rig.enter(code)
    assert qualification == rig.vmx["EXIT_QUALIFICATION"]
    assert PAGE + 0x123 == rig.vmx["GUEST_PHYSICAL_ADDRESS"] == rig.vmx["GUEST_LINEAR_ADDRESS"]
    assert GUEST_CODE == rig.vmx["GUEST_RIP"] or code == "ffe3"


def test_a_misconfiguration_exits(rig):
    leaf(rig, PAGE | 0xB2)

    assert ExitReason.EPT_MISCONFIGURATION == rig.enter("8b03")
    assert PAGE + 0x123 == rig.vmx["GUEST_PHYSICAL_ADDRESS"]


def test_a_violation_can_become_an_exception(rig):
    rig.vmx["SECONDARY_VM_EXEC_CONTROL"] |= ProcBased2.EPT_VIOLATION_VE
    rig.set(VE_INFORMATION_ADDRESS=AREA, EXCEPTION_BITMAP=1 << 20)
    leaf(rig, 0)

    assert ExitReason.EXCEPTION_OR_NMI == rig.enter("8b03")
    assert 20 == rig.vmx["VM_EXIT_INTR_INFO"] & 0xFF
    area = rig.cpu.memory.read(AREA, 34)
    assert (48, 0xFFFF_FFFF) == tuple(int.from_bytes(area[i : i + 4], "little") for i in (0, 4))
    assert PAGE + 0x123 == int.from_bytes(area[24:32], "little")


def test_an_entry_can_suppress_the_exception(rig):
    rig.vmx["SECONDARY_VM_EXEC_CONTROL"] |= ProcBased2.EPT_VIOLATION_VE
    rig.set(VE_INFORMATION_ADDRESS=AREA)
    leaf(rig, SUPPRESS)

    assert ExitReason.EPT_VIOLATION == rig.enter("8b03")


def test_pages_that_become_dirty_are_logged(rig):
    rig.vmx["SECONDARY_VM_EXEC_CONTROL"] |= ProcBased2.ENABLE_PML
    rig.set(EPT_POINTER=ROOT | POINTER | 0x40, PML_ADDRESS=LOG, GUEST_PML_INDEX=511)

    assert ExitReason.HLT == rig.enter("8903 894304")
    logged = [
        int.from_bytes(rig.cpu.memory.read(LOG + 8 * i, 8), "little")
        for i in range(rig.vmx["GUEST_PML_INDEX"] + 1, 512)
    ]
    assert 1 == logged.count(PAGE)
    leaf(rig, PAGE | 0xB7)
    rig.set(GUEST_PML_INDEX=0xFFFF, GUEST_RIP=GUEST_CODE)
    assert ExitReason.PAGE_MODIFICATION_LOG_FULL == rig.enter("8903", again=True)


def test_vmfunc_switches_between_listed_pointers(rig):
    rig.vmx["SECONDARY_VM_EXEC_CONTROL"] |= ProcBased2.ENABLE_VM_FUNCTIONS
    rig.set(VM_FUNCTION_CONTROL=1, EPTP_LIST_ADDRESS=LIST)
    rig.cpu.memory.load(LIST, (OTHER_ROOT | POINTER).to_bytes(8, "little"))
    rig.cpu.state.rax = rig.cpu.state.rcx = 0

    assert ExitReason.HLT == rig.enter("0f01d4")
    assert OTHER_ROOT | POINTER == rig.vmx["EPT_POINTER"]
    rig.cpu.state.rcx = 512
    rig.set(GUEST_RIP=GUEST_CODE)
    assert ExitReason.VMFUNC == rig.enter("0f01d4", again=True)

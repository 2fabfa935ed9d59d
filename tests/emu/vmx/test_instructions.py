"""VMX instructions: faults, VMfail and success, one rule broken at a time."""

from __future__ import annotations

import pytest

from emu.cpu.paging import CR4_VMXE
from emu.vmx.region import NO_VMCS
from vmcs.vmx.fields import BY_NAME
from vmcs.vmx.instruction_errors import InstructionError

from .rig import (
    CF,
    FEATURE_CONTROL,
    INVEPT,
    INVVPID,
    OPERAND,
    OTHER_REGION,
    VMCALL,
    VMCLEAR,
    VMCS_REGION,
    VMFUNC,
    VMLAUNCH,
    VMPTRLD,
    VMPTRST,
    VMREAD,
    VMRESUME,
    VMWRITE,
    VMXOFF,
    VMXON,
    VMXON_REGION,
    ZF,
    Rig,
)

UD, GP = "fault 6", "fault 13"
IN_OPERATION = [VMXOFF, VMCLEAR, VMPTRLD, VMPTRST, VMREAD, VMWRITE, VMLAUNCH, VMRESUME, INVEPT]
IN_OPERATION += [INVVPID, VMCALL]


@pytest.fixture
def rig():
    return Rig()


@pytest.fixture
def on(rig):
    rig.turn_on()
    return rig


def test_vmxon_enters_vmx_operation(rig):
    assert 0 == rig.do(VMXON, VMXON_REGION)
    assert (True, VMXON_REGION, NO_VMCS) == (rig.vmx.on, rig.vmx.region, rig.vmx.current)


@pytest.mark.parametrize("code", [*IN_OPERATION, VMFUNC])
def test_outside_vmx_operation_an_instruction_is_undefined(rig, code):
    assert UD == rig.do(code, VMCS_REGION)


@pytest.mark.parametrize("code", IN_OPERATION)
def test_above_level_0_an_instruction_faults(on, code):
    on.cpu.state.cpl = 3
    on.cpu.refresh()

    assert GP == on.do(code, VMCS_REGION)


def test_vmxon_is_undefined_without_cr4_vmxe(rig):
    rig.cpu.state.cr4 &= ~CR4_VMXE

    assert UD == rig.do(VMXON, VMXON_REGION)


@pytest.mark.parametrize("control", [0, 1, 4, 3])
def test_vmxon_needs_the_feature_control_msr(rig, control):
    rig.cpu.msrs[FEATURE_CONTROL] = control

    assert GP == rig.do(VMXON, VMXON_REGION)


def test_vmxon_needs_the_fixed_bits_of_cr0(rig):
    rig.cpu.state.cr0 &= ~0x20

    assert GP == rig.do(VMXON, VMXON_REGION)


@pytest.mark.parametrize("address", [VMXON_REGION + 8, 1 << 46, 0x900000])
def test_vmxon_with_a_wrong_region_fails(rig, address):
    assert CF == rig.do(VMXON, address)
    assert not rig.vmx.on


def test_vmxon_in_operation_fails(on):
    assert ZF == on.do(VMXON, VMXON_REGION)
    assert InstructionError.VMXON_IN_VMX_ROOT_OPERATION == on.error()


def test_without_a_current_vmcs_a_failure_is_invalid(rig):
    rig.do(VMXON, VMXON_REGION)

    assert [CF] * 5 == [rig.do(c) for c in (VMREAD, VMWRITE, VMLAUNCH, VMRESUME, VMCALL)]
    assert CF == rig.do(VMCLEAR, 1)


@pytest.mark.parametrize(
    ("code", "address", "error"),
    [
        (VMCLEAR, 0x123, "VMCLEAR_INVALID_ADDRESS"),
        (VMCLEAR, 1 << 46, "VMCLEAR_INVALID_ADDRESS"),
        (VMCLEAR, VMXON_REGION, "VMCLEAR_VMXON_POINTER"),
        (VMPTRLD, 0x123, "VMPTRLD_INVALID_ADDRESS"),
        (VMPTRLD, 1 << 46, "VMPTRLD_INVALID_ADDRESS"),
        (VMPTRLD, VMXON_REGION, "VMPTRLD_VMXON_POINTER"),
        (VMPTRLD, 0x900000, "VMPTRLD_INCORRECT_REVISION_ID"),
        (VMCALL, 0, "VMCALL_IN_VMX_ROOT_OPERATION"),
        (VMRESUME, 0, "VMRESUME_NON_LAUNCHED_VMCS"),
        (VMLAUNCH, 0, "ENTRY_INVALID_CONTROL_FIELD"),
    ],
)
def test_an_instruction_fails_with_its_error(on, code, address, error):
    assert ZF == on.do(code, address)
    assert InstructionError[error] == on.error()
    assert VMCS_REGION == on.vmx.current


def test_vmptrst_stores_the_pointer(on):
    assert 0 == on.do(VMPTRST)
    assert VMCS_REGION == int.from_bytes(on.cpu.memory.read(OPERAND, 8), "little")


@pytest.mark.parametrize(
    "name", ["GUEST_CS_SELECTOR", "EXCEPTION_BITMAP", "TSC_OFFSET", "HOST_RIP"]
)
def test_vmwrite_keeps_as_much_as_the_field_is_wide(on, name):
    field = BY_NAME[name]

    assert 0 == on.do(VMWRITE, rbx=field.encoding, rax=0x1122_3344_5566_7788)
    assert 0 == on.do(VMREAD, rbx=field.encoding, rax=0)
    assert 0x1122_3344_5566_7788 & (1 << 8 * field.size) - 1 == on.cpu.state.rax


def test_the_upper_half_of_a_64_bit_field_is_accessed_by_itself(on):
    encoding = BY_NAME["TSC_OFFSET"].encoding
    on.do(VMWRITE, rbx=encoding, rax=0x1111_2222_3333_4444)

    assert 0 == on.do(VMWRITE, rbx=encoding | 1, rax=0xAAAA_AAAA_5555_6666)
    assert 0x5555_6666_3333_4444 == on.vmx["TSC_OFFSET"]
    on.do(VMREAD, rbx=encoding | 1)
    assert 0x5555_6666 == on.cpu.state.rax


@pytest.mark.parametrize("encoding", [0x7777, 0x6C20, 1 << 32, 0x4001, 0xFFFF_FFFF])
@pytest.mark.parametrize("code", [VMREAD, VMWRITE])
def test_an_encoding_without_a_field_fails(on, code, encoding):
    assert ZF == on.do(code, rbx=encoding)
    assert InstructionError.UNSUPPORTED_VMCS_COMPONENT == on.error()


def test_fields_survive_in_memory(on):
    encoding = BY_NAME["GUEST_RIP"].encoding
    on.do(VMWRITE, rbx=encoding, rax=0x1234)

    for address in (OTHER_REGION, VMCS_REGION):
        on.cpu.state.rbx = OPERAND
        assert 0 == on.do(VMPTRLD, address)
    assert 0 == on.do(VMREAD, rbx=encoding)
    assert 0x1234 == on.cpu.state.rax
    on.cpu.state.rbx = OPERAND
    assert 0 == on.do(VMCLEAR, VMCS_REGION)
    assert NO_VMCS == on.vmx.current
    assert 0 == on.do(VMPTRLD, VMCS_REGION)
    assert 0x1234 == on.vmx["GUEST_RIP"]


def test_vmxoff_leaves_vmx_operation(on):
    assert 0 == on.do(VMXOFF)
    assert UD == on.do(VMXOFF)


@pytest.mark.parametrize("code", [INVEPT, INVVPID])
def test_an_invalidation_of_an_unknown_type_fails(on, code):
    assert ZF == on.do(code, 0, rax=9)
    assert InstructionError.INVALID_OPERAND_TO_INVEPT_INVVPID == on.error()


@pytest.mark.parametrize(
    ("code", "kind", "operand", "result"),
    [
        (INVEPT, 2, 0, 0),
        (INVEPT, 1, 0x1000 | 3 << 3 | 6, 0),
        (INVEPT, 1, 0x1000 | 2 << 3 | 6, ZF),
        (INVVPID, 0, 5, 0),
        (INVVPID, 0, 5 | 1 << 47 << 64, ZF),
        (INVVPID, 1, 5, 0),
        (INVVPID, 1, 0, ZF),
        (INVVPID, 1, 5 | 1 << 16, ZF),
        (INVVPID, 2, 0, 0),
        (INVVPID, 3, 5, 0),
    ],
)
def test_the_operand_of_an_invalidation_is_checked(on, code, kind, operand, result):
    assert result == on.do(code, operand, rax=kind)


def test_init_waits_in_vmx_root_operation(on):
    on.cpu.init_pending = True
    on.cpu.update_pending()

    on.do("90")
    assert on.cpu.init_pending
    assert on.cpu.state.cr4 & CR4_VMXE


def test_cr4_vmxe_cannot_be_cleared_in_vmx_operation(on):
    assert GP == on.do("0f22e0", rax=int(on.cpu.state.cr4) & ~CR4_VMXE)

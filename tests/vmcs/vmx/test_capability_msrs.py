"""Capability MSRs decode as the manual says, and bound the controls that they name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcs.vmx.capability_msrs import (
    BASIC,
    BY_NAME,
    CAPABILITY_MSRS,
    EPT_VPID_CAP,
    MISC,
    TRUE_MSR,
    VMCS_ENUM,
    Shape,
    allowed0,
    allowed1,
    allows,
    control_msr,
    describe_msr,
    with_default1,
)
from vmcs.vmx.controls import Entry, Exit, PinBased, ProcBased

WORDS = st.integers(0, 0xFFFF_FFFF)


def test_msrs_are_numbered_without_a_gap():
    assert list(range(0x480, 0x494)) == [msr.number for msr in CAPABILITY_MSRS]


def test_every_msr_and_every_bit_is_cited():
    assert all(msr.sdm for msr in CAPABILITY_MSRS)
    assert all(row.sdm or row.seen for msr in CAPABILITY_MSRS for row in msr.layout or ())


@pytest.mark.parametrize("msr", CAPABILITY_MSRS, ids=lambda msr: msr.name)
def test_msr_has_a_format_or_bounds_controls_or_fixes_bits(msr):
    kinds = {
        Shape.BIT_FIELDS: (True, False),
        Shape.ALLOWED_SETTINGS: (False, True),
        Shape.ALLOWED_1_SETTINGS: (False, True),
        Shape.FIXED_BITS: (False, False),
    }

    assert kinds[msr.shape] == (msr.layout is not None, msr.controls is not None)


# SDM, appendix VMX Capability Reporting Facility; the masks are summed from the bit positions.
@pytest.mark.parametrize(
    ("layout", "reserved"),
    [
        (BASIC, 1 << 31 | 7 << 45 | 1 << 57 | 1 << 59 | 7 << 61),
        (MISC, 0x1F << 9 | 1 << 31),
        (VMCS_ENUM, 0xFFFF_FFFF_FFFF_FC01),
        (
            EPT_VPID_CAP,
            0x1F << 1
            | 0x1F << 9
            | 1 << 15
            | 3 << 18
            | 1 << 24
            | 0x1F << 27
            | 0x7F << 33
            | 0xF << 44
            | 0x3FF << 54,
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_reserved_bits_are_the_manual_s(layout, reserved):
    assert reserved == layout.reserved_mask()


# Values that KVM gives L1 when the processor supports everything.
# Linux: arch/x86/kvm/vmx/nested.c: nested_vmx_setup_ctls_msrs.
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "IA32_VMX_BASIC",
            0x0098_1000_11E5_7ED0,
            ("REVISION_ID=0x11e57ed0", "REGION_SIZE=0x1000", "MEMORY_TYPE=WB", "TRUE_CTLS"),
        ),
        (
            "IA32_VMX_BASIC",
            0x00D8_1000_11E5_7ED0,
            (
                "REVISION_ID=0x11e57ed0",
                "REGION_SIZE=0x1000",
                "MEMORY_TYPE=WB",
                "INS_OUTS_INFO",
                "TRUE_CTLS",
            ),
        ),
        (
            "IA32_VMX_MISC",
            0x2000_0165,
            (
                "TIMER_RATE=0x5",
                "STORE_LMA",
                "ACTIVITY_HLT",
                "ACTIVITY_WAIT_FOR_SIPI",
                "VMWRITE_ANY",
            ),
        ),
        ("IA32_VMX_VMCS_ENUM", 0x2E, ("HIGHEST_INDEX=0x17",)),
        ("IA32_VMX_VMCS_ENUM", 0x32, ("HIGHEST_INDEX=0x19",)),
        (
            "IA32_VMX_EPT_VPID_CAP",
            0x0000_0F01_0633_4041,
            (
                "EXECUTE_ONLY",
                "WALK_LENGTH_4",
                "MEMORY_TYPE_WB",
                "PAGE_2M",
                "PAGE_1G",
                "INVEPT",
                "ACCESSED_DIRTY",
                "INVEPT_SINGLE_CONTEXT",
                "INVEPT_ALL_CONTEXT",
                "INVVPID",
                "INVVPID_INDIVIDUAL_ADDRESS",
                "INVVPID_SINGLE_CONTEXT",
                "INVVPID_ALL_CONTEXT",
                "INVVPID_RETAINING_GLOBALS",
            ),
        ),
        (
            "IA32_VMX_TRUE_PINBASED_CTLS",
            0x0000_007F_0000_0016,
            (
                "EXTERNAL_INTERRUPT_EXITING",
                "RESERVED_1=1",
                "RESERVED_2=1",
                "NMI_EXITING",
                "RESERVED_4=1",
                "VIRTUAL_NMIS",
                "ACTIVATE_VMX_PREEMPTION_TIMER",
            ),
        ),
        ("IA32_VMX_VMFUNC", 1, ("EPTP_SWITCHING",)),
        ("IA32_VMX_CR4_FIXED0", 0x2000, ("0x2000",)),
    ],
)
def test_value_reads_as_the_manual_says(name, value, expected):
    assert expected == describe_msr(BY_NAME[name].number, value)


@pytest.mark.parametrize(
    ("true", "plain", "controls"),
    [
        (0x0000_007F_0000_0016, 0x0000_007F_0000_0016, PinBased),
        (0xFFF9_FFFE_0400_6172, 0xFFF9_FFFE_0401_E172, ProcBased),
        (0x007F_EFFF_0003_6DFB, 0x007F_EFFF_0003_6DFF, Exit),
        (0x0000_D3FF_0000_11FB, 0x0000_D3FF_0000_11FF, Entry),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_msr_without_true_forces_the_default1_class(true, plain, controls):
    assert plain == with_default1(true, controls)


def test_true_msrs_bound_the_same_controls():
    for plain, true in TRUE_MSR.items():
        pair = [msr for msr in CAPABILITY_MSRS if msr.number in (plain, true)]

        assert pair[0].controls is pair[1].controls
        assert pair[0].name.replace("VMX_", "VMX_TRUE_") == pair[1].name


@given(WORDS, WORDS)
def test_halves_are_the_allowed_settings(low, high):
    msr = control_msr(low, high)

    assert (low, high) == (allowed0(msr), allowed1(msr))
    assert high * 2**32 + low == msr


@given(WORDS, WORDS, WORDS)
def test_controls_are_allowed_bit_by_bit(low, high, controls):
    fine = all(
        (controls >> at & 1 or not low >> at & 1) and (not controls >> at & 1 or high >> at & 1)
        for at in range(32)
    )

    assert fine == allows(control_msr(low, high), controls)


def test_another_msr_is_a_key_error():
    with pytest.raises(KeyError):
        describe_msr(0x47F, 0)

import pytest

from tests.emu.kvm.vmx_support import base_blob, make_vcpu

BASIC, PIN, MISC, CR0_FIXED0, CR0_FIXED1, CR4_FIXED1 = 0x480, 0x481, 0x485, 0x486, 0x487, 0x489
VMCS_ENUM, EPT_VPID, TRUE_PIN, VMFUNC, FEAT_CTL = 0x48A, 0x48C, 0x48D, 0x491, 0x3A


def write(vcpu, index, value):
    """Name of the rule that refuses the write; empty where it is done."""
    return "" if vcpu.set_msrs([(index, value)]) else vcpu.refused_msr[1]


def read(vcpu, index):
    return vcpu.get_msrs([index])[0]


@pytest.mark.parametrize(
    ("index", "change", "rule"),
    [
        (BASIC, lambda v: v ^ 1, "vmx_basic_revision"),
        (BASIC, lambda v: v | 1 << 48, "vmx_basic_32_bit_addresses"),
        (BASIC, lambda v: v | 1 << 49, "vmx_basic_features_subset"),
        (BASIC, lambda v: v - (1 << 32), "vmx_basic_size"),
        (BASIC, lambda v: v & ~(1 << 54), ""),
        (PIN, lambda v: v, "vmx_msr_true_controls_only"),
        (TRUE_PIN, lambda v: v & ~0x2, "vmx_msr_control_must_be_1"),
        (TRUE_PIN, lambda v: v | 1 << 63, "vmx_msr_control_may_be_1"),
        (TRUE_PIN, lambda v: v & ~(1 << 38), ""),
        (MISC, lambda v: v | 1 << 9, "vmx_misc_features_subset"),
        (MISC, lambda v: v ^ 1, "vmx_misc_preemption_timer_rate"),
        (MISC, lambda v: v | 1 << 16, "vmx_misc_cr3_target_count"),
        (MISC, lambda v: v | 1 << 25, "vmx_misc_msr_list_size"),
        (MISC, lambda v: v | 1 << 32, "vmx_misc_mseg_revision"),
        (CR0_FIXED0, lambda v: v & ~1, "vmx_msr_fixed0_superset"),
        (CR0_FIXED0, lambda v: v | 2, ""),
        (CR0_FIXED1, lambda v: v, "vmx_msr_fixed1_from_cpuid"),
        (VMCS_ENUM, lambda v: v + 2, ""),
        (EPT_VPID, lambda v: v | 2, "vmx_msr_ept_vpid_subset"),
        (VMFUNC, lambda v: v | 2, "vmx_msr_vmfunc_subset"),
    ],
)
def test_capability_msrs_may_only_be_narrowed(index, change, rule):
    vcpu = make_vcpu("6.12")
    value = change(read(vcpu, index))

    assert rule == write(vcpu, index, value)
    assert rule or value == read(vcpu, index)


@pytest.mark.parametrize(("release", "rule"), [("5.19", "vmx_msr_control_may_be_1"), ("6.0", "")])
def test_what_was_narrowed_can_be_widened_again_from_6_0_on(release, rule):
    vcpu = make_vcpu(release)
    full = read(vcpu, TRUE_PIN)
    write(vcpu, TRUE_PIN, full & ~(1 << 38))

    assert rule == write(vcpu, TRUE_PIN, full)


def test_capability_msrs_are_fixed_in_vmx_operation():
    for release, rule in (
        ("6.19", "vmx_msr_outside_vmx_operation"),
        ("7.0", "feature_msr_unchanged_in_guest_mode"),
    ):
        vcpu = make_vcpu(release)
        vcpu.set_nested_state(base_blob())
        value = read(vcpu, TRUE_PIN) & ~(1 << 38)

        assert rule == write(vcpu, TRUE_PIN, value)


def test_capability_msrs_need_vmx_in_cpuid():
    vcpu = make_vcpu("6.12")
    vcpu.set_cpuid2(vcpu.cpuid.cleared(1, 0, 2, 1 << 5))

    assert "vmx_msr_needs_guest_vmx" == write(vcpu, TRUE_PIN, 0)
    assert () == vcpu.get_msrs([TRUE_PIN])


def test_cr4_fixed1_follows_cpuid():
    vcpu = make_vcpu("6.12")
    before = read(vcpu, CR4_FIXED1)
    vcpu.set_cpuid2(vcpu.cpuid.cleared(7, 0, 1, 1 << 20))

    assert before & ~(1 << 21) == read(vcpu, CR4_FIXED1)


@pytest.mark.parametrize(("release", "rule"), [("6.1", "feature_control_bits"), ("6.2", "")])
def test_feature_control_minds_cpuid_before_6_2(release, rule):
    vcpu = make_vcpu(release)
    vcpu.set_cpuid2(vcpu.cpuid.cleared(1, 0, 2, 1 << 5))

    assert rule == write(vcpu, FEAT_CTL, 5)


def test_feature_control_zero_leaves_nested():
    vcpu = make_vcpu("6.12")
    vcpu.set_nested_state(base_blob())

    assert "" == write(vcpu, FEAT_CTL, 5)
    assert vcpu.operations.nested.guest_mode
    assert "" == write(vcpu, FEAT_CTL, 0)
    assert not vcpu.operations.nested.in_vmx_operation


@pytest.mark.parametrize(("release", "rule"), [("5.2", "vmx_msr_known"), ("5.3", "")])
def test_the_vm_function_msr_is_writable_from_5_3_on(release, rule):
    assert rule == write(make_vcpu(release), VMFUNC, 0)

import pytest

from emu.kvm import Kvm
from emu.kvm.control_registers import CR0, CR4, EFER
from emu.kvm.structs import DebugRegs, Segment
from tests.emu.kvm.svm_support import (
    GIF_SET,
    SVM_RELEASES,
    base_blob,
    get,
    host,
    make_vcpu,
    with_features,
)

KVM_CAP_NESTED_STATE = 157
EFER_MSR, TSC_RATIO, VM_CR, HSAVE_PA = 0xC000_0080, 0xC000_0104, 0xC001_0114, 0xC001_0117
DEBUGCTL, BR_FROM, STAR, FS_BASE, SYSENTER_EIP = 0x1D9, 0x1DB, 0xC000_0081, 0xC000_0100, 0x176
DE_CFG, VIRT_SPEC_CTRL = 0xC001_1029, 0xC001_011F


def write(vcpu, index, value):
    """Name of the rule that refuses the write; empty where it is done."""
    done = vcpu.set_msrs([(index, value)])
    return "" if done else vcpu.refused_msr[1]


def read(vcpu, index):
    values = vcpu.get_msrs([index])
    return values[0] if values else None


@pytest.mark.parametrize(
    ("release", "nested", "size"),
    [
        ("5.7", True, 0),
        ("5.8", True, 4224),
        ("6.19", True, 4224),
        ("6.19", False, 4224),
        ("7.2", True, 4224),
        ("7.2", False, 0),
    ],
)
def test_capability_says_the_size_of_nested_state(release, nested, size):
    kvm = Kvm(release, host(nested=nested))

    assert size == kvm.check_extension(KVM_CAP_NESTED_STATE)


def test_with_nested_off_svme_cannot_be_set():
    vcpu = make_vcpu("6.12", host(nested=False), svme=False)

    assert "msr_efer_reserved" == write(vcpu, EFER_MSR, EFER.SVME)


@pytest.mark.parametrize("name", ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"])
def test_a_segment_comes_back_as_it_was_set(name):
    vcpu = make_vcpu("6.12")
    kind = 11 if name in ("cs", "tr") else 3
    segment = Segment(
        base=0x1000, limit=0xFFFF_FFFF, selector=8, type=kind, present=1, dpl=2, db=1, s=1, g=1
    )
    vcpu.operations.set_segment(name, segment)

    assert segment == vcpu.operations.get_segment(name)


def test_granularity_follows_the_limit_and_an_absent_segment_is_unusable():
    operations = make_vcpu("6.12").operations
    operations.set_segment("ds", Segment(limit=0xFFFF, type=2, g=1, unusable=1, present=1))

    assert Segment(limit=0xFFFF, type=2, unusable=1) == operations.get_segment("ds")


def test_the_privilege_level_is_that_of_ss():
    operations = make_vcpu("6.12").operations
    operations.set_segment("ss", Segment(type=3, dpl=3, present=1, s=1))

    assert 3 == operations.vmcb["cpl"]


def test_paging_sets_lma_and_clears_it():
    vcpu = make_vcpu("6.12", svme=False)
    vcpu.operations.set_cr0(CR0.PE | CR0.ET)

    assert EFER.LME == vcpu.efer

    vcpu.operations.set_cr0(CR0.PG | CR0.PE | CR0.ET)

    assert EFER.LME | EFER.LMA == vcpu.efer


def test_the_guest_runs_with_caches_on_whatever_cr0_says():
    vcpu = make_vcpu("6.12")
    vcpu.operations.set_cr0(CR0.PG | CR0.PE | CR0.CD | CR0.NW)

    assert CR0.PG | CR0.PE == vcpu.operations.vmcb["cr0"]
    assert CR0.PG | CR0.PE | CR0.CD | CR0.NW == vcpu.cr0


def test_reset_leaves_l2():
    vcpu = make_vcpu("6.12")
    vcpu.set_nested_state(base_blob())
    vcpu.reset(init_event=False)

    assert not vcpu.operations.in_guest_mode
    assert (CR0.CD | CR0.NW | CR0.ET, 0, 0, 0) == vcpu.get_control_registers()
    assert GIF_SET == get(vcpu.get_nested_state(), "FLAGS")


def test_vm_cr_knows_five_bits_and_locks_the_two_of_svm():
    vcpu = make_vcpu("6.12", svme=False)

    assert "msr_vm_cr_reserved" == write(vcpu, VM_CR, 0x20)
    assert not write(vcpu, VM_CR, 0x18)
    assert not write(vcpu, VM_CR, 0x01)
    assert 0x19 == read(vcpu, VM_CR)


def test_vm_cr_disables_svm_with_an_error_while_svme_is_set():
    vcpu = make_vcpu("6.12")

    assert "msr_vm_cr_svm_disable_while_svme" == write(vcpu, VM_CR, 0x10)
    assert 0x10 == read(vcpu, VM_CR)


@pytest.mark.parametrize(("release", "kept"), [("5.12", 0x4001), ("5.14", 0x4000)])
def test_hsave_pa_is_cut_to_a_page_from_5_14_on(release, kept):
    vcpu = make_vcpu(release)
    write(vcpu, HSAVE_PA, 0x4001)

    assert kept == read(vcpu, HSAVE_PA)


@pytest.mark.parametrize(
    ("release", "value", "rule"),
    [
        ("5.16", 2 << 32, ""),
        ("5.16", 1 << 40, "msr_tsc_ratio_reserved"),
        ("5.18", 2 << 32, "msr_tsc_ratio_default"),
        ("5.18", 0, ""),
        ("6.12", 1 << 32, ""),
    ],
)
def test_tsc_ratio_of_a_guest_without_the_feature(release, value, rule):
    assert rule == write(make_vcpu(release), TSC_RATIO, value)


def test_tsc_ratio_of_a_guest_with_the_feature_scales_the_offset_of_l2():
    vcpu = make_vcpu("6.12", with_features(host(), "TSCRATEMSR"))
    vcpu.operations.l1_tsc_offset = 0x1000

    assert not write(vcpu, TSC_RATIO, 2 << 32)
    assert 0x2010 == vcpu.operations.l2_tsc_offset(0x10)
    assert "msr_tsc_ratio_reserved" == write(vcpu, TSC_RATIO, 1 << 40)


@pytest.mark.parametrize(
    ("release", "value", "kept"),
    [("6.12", 0x3F, 0x3F), ("6.14", 0x3F, 0x01), ("6.17", 0x03, 0x01), ("6.1.192", 0x3F, 0x03)],
)
def test_debugctl_where_kvm_has_lbr_virtualization(release, value, kept):
    vcpu = make_vcpu(release, with_features(host(), "LBRV"))

    assert not write(vcpu, DEBUGCTL, value)
    assert kept == read(vcpu, DEBUGCTL)
    assert "msr_debugctl_reserved" == write(vcpu, DEBUGCTL, 0x40)


def test_without_lbr_virtualization_debugctl_is_ignored():
    vcpu = make_vcpu("6.12")

    assert not write(vcpu, DEBUGCTL, 0x40)
    assert 0 == read(vcpu, DEBUGCTL)


@pytest.mark.parametrize(("release", "rule"), [("7.0", "msr_known"), ("7.1", "")])
def test_last_branch_msrs_can_be_restored_from_7_1_on(release, rule):
    vcpu = make_vcpu(release, with_features(host(), "LBRV"))

    assert rule == write(vcpu, BR_FROM, 0x1000)
    assert (0 if rule else 0x1000) == read(vcpu, BR_FROM)


@pytest.mark.parametrize("release", SVM_RELEASES)
def test_system_call_msrs_are_those_of_l1_whoever_runs(release):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(base_blob())

    assert not write(vcpu, STAR, 0x1234)
    assert 0x1234 == read(vcpu, STAR)


def test_sysenter_has_32_bits_from_5_13_on():
    for release, kept in (("5.12", 0x1_0000_0001), ("5.13", 1)):
        vcpu = make_vcpu(release)
        write(vcpu, SYSENTER_EIP, 0x1_0000_0001)

        assert kept == read(vcpu, SYSENTER_EIP)


def test_fs_base_is_an_msr_of_user_space_from_6_11_on():
    assert read(make_vcpu("6.10"), FS_BASE) is None
    assert 0 == read(make_vcpu("6.11"), FS_BASE)


def test_msrs_with_fixed_bits():
    vcpu = make_vcpu("6.12")

    assert "msr_de_cfg_supported" == write(vcpu, DE_CFG, 1)
    assert not write(vcpu, DE_CFG, 2)
    assert "msr_virt_spec_ctrl_reserved" == write(vcpu, VIRT_SPEC_CTRL, 1)
    assert not write(vcpu, VIRT_SPEC_CTRL, 4)


@pytest.mark.parametrize(("release", "dr7"), [("5.14", 0x400), ("7.3", 0x400)])
def test_dr7_of_user_space_is_seen_in_the_save_area(release, dr7):
    vcpu = make_vcpu(release)
    vcpu.set_debugregs(DebugRegs(dr7=dr7 | 2))

    assert dr7 | 2 == vcpu.operations.vmcb01["dr7"]


def test_virtual_gif_can_be_off():
    vcpu = make_vcpu("6.12", host(vgif=False))
    blob = base_blob()
    blob[1] = 0
    vcpu.set_nested_state(blob)

    assert not vcpu.operations.gif
    assert 0 == vcpu.operations.vmcb01["int_ctl"] >> 25 & 1


def test_l2_with_a_gif_of_its_own_keeps_that_of_l1():
    """With virtual GIF for L2, vmcb02 has the flag of L2 and GET shows that of L1."""
    vcpu = make_vcpu("6.12")
    blob = base_blob()
    blob[1] = 0
    blob[128 + 0x60 : 128 + 0x64] = (1 << 25 | 1 << 9).to_bytes(4, "little")
    vcpu.set_nested_state(blob)

    assert 0 == get(vcpu.get_nested_state(), "FLAGS") & GIF_SET
    assert 1 == vcpu.operations.vmcb02["int_ctl"] >> 9 & 1


def test_nmi_mask_and_interrupt_shadow():
    vcpu = make_vcpu("6.12")
    vcpu.operations.set_nmi_mask(True)
    vcpu.operations.set_interrupt_shadow(1)

    assert vcpu.operations.get_nmi_mask()
    assert 3 == vcpu.operations.get_interrupt_shadow()


def test_virtual_nmi_keeps_the_mask_in_the_control_block():
    vcpu = make_vcpu("6.12", with_features(host(), "VNMI"))
    vcpu.operations.set_nmi_mask(True)

    assert vcpu.operations.get_nmi_mask()
    assert 1 == vcpu.operations.vmcb01["int_ctl"] >> 12 & 1


@pytest.mark.parametrize(
    ("release", "intercepted"), [("5.10", True), ("6.0", True), ("6.1", False)]
)
def test_init_is_latched_where_it_is_intercepted_until_6_0(release, intercepted):
    vcpu = make_vcpu(release)
    blob = base_blob()
    blob[128 + 0x0C] |= 1 << 3
    vcpu.set_nested_state(blob)

    assert intercepted == vcpu.operations.init_blocked


def test_l2_leaves_where_l1_or_kvm_wants_it_to():
    vcpu = make_vcpu("6.12")
    blob = base_blob()
    blob[128 + 0x0E] |= 1 << 2
    vcpu.set_nested_state(blob)
    vector = vcpu.operations.vmcb02.intercept_vector()
    cpuid, hlt, vmmcall, vmload = (1 << 32 * 3 + 18), (1 << 32 * 3 + 24), (1 << 129), (1 << 130)

    assert cpuid & vector
    assert hlt & vector
    assert not vmmcall & vector
    assert vmload & vector


def test_a_control_block_prints_what_it_holds():
    text = str(make_vcpu("6.12").operations.vmcb01)

    assert "cs.selector 0xf000" in text
    assert "rip 0xfff0" in text
    assert "reserved" not in text


def test_pdptes_are_read_when_they_are_asked_for():
    vcpu = make_vcpu("6.12", svme=False)
    vcpu.vm.write_memory(0x2000, (0x3001).to_bytes(8, "little"))
    vcpu.load_control_registers(CR0.PE | CR0.ET, 0x2000, CR4.PAE, 0)
    vcpu.load_control_registers(CR0.PG | CR0.PE | CR0.ET, 0x2000, CR4.PAE, 0, load_pdptrs=False)
    vcpu.in_cache &= ~(1 << 5)

    assert (0x3001, 0, 0, 0) == vcpu.get_sregs2().pdptrs


def test_there_is_no_enlightened_vmcs():
    assert make_vcpu("6.12").operations.enable_evmcs() is None

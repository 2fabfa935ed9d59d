"""Breaks between kernels: each replayed on the kernels on both sides of it.

The number in a test's name is that of the break.  What needs a processor to execute guest code is
not here.
"""

from errno import EINVAL

import pytest

from emu.errors import KvmError
from emu.kvm.control_registers import CR0, CR4
from emu.kvm.nested_vmx.state import EVMCS_NONE
from emu.kvm.nested_vmx.sync import exit_to_l1
from emu.migration.capture import of_blob, shipped
from emu.migration.guest import new_vcpu
from emu.migration.judge import judge
from emu.migration.policy import Record
from tests.emu.kvm import svm_support as svm
from tests.emu.kvm import vmx_support as vmx
from tests.emu.kvm.svm_support import GIF_SET
from tests.emu.kvm.vmx_support import (
    EVMCS,
    GUEST_MODE,
    MTF_PENDING,
    NONE_PA,
    RUN_PENDING,
    get,
    make_vcpu,
    outcome,
    patched,
)
from tests.emu.migration.replay_support import (
    KVM_CAP_EVMCS,
    KVM_CAP_EXCEPTION_PAYLOAD,
    KVM_CAP_NESTED_STATE,
    KVM_CAP_TRIPLE_FAULT_EVENT,
    MSR_DEBUGCTL,
    NO_VMXON,
    QEMU,
    VALID_PAYLOAD,
    VALID_SMM,
    VALID_TRIPLE_FAULT,
    kvm,
    moved,
    own_pat,
    sregs_refusal,
    without,
)

LOAD_DEBUG_CONTROLS, IA32E_MODE_GUEST, SECONDARY = 1 << 2, 1 << 9, 1 << 31
VMCS_SHADOWING, TSC_SCALING = 1 << 14, 1 << 25
SHADOW_REVISION = 0x91E57ED0
BASE_PROC = get(vmx.base_blob(), "CPU_BASED_VM_EXEC_CONTROL")
BASE_ENTRY = get(vmx.base_blob(), "VM_ENTRY_CONTROLS")
PAE_WITHOUT_EPT = {
    "GUEST_CR0": CR0.PG | CR0.NE | CR0.ET | CR0.PE,
    "GUEST_CR4": CR4.PAE | CR4.VMXE,
    "VM_ENTRY_CONTROLS": BASE_ENTRY & ~IA32E_MODE_GUEST,
    "CPU_BASED_VM_EXEC_CONTROL": BASE_PROC & ~SECONDARY,
}


def judged(release, **words):
    """The verdict of one kernel on the recorded L2 with other words; the vCPU runs that L2."""
    return judge(of_blob("", bytes(patched(**words))), kvm(release))


def is_empty(vcpu):
    """Whether the vCPU is in VMX operation with no current VMCS and no L2."""
    nested = vcpu.operations.nested
    return nested.vmxon and nested.vmcs12_pa == NONE_PA and not nested.guest_mode


# D: breaks between releases, Intel ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("flag", "before", "since"),
    [(EVMCS, "4.19", "4.20"), (MTF_PENDING, "5.6", "5.7"), (GIF_SET, "5.7", "5.8")],
)
def test_d1_a_flag_is_refused_by_every_kernel_that_does_not_know_it(flag, before, since):
    words = {"FLAGS": GUEST_MODE | flag}

    assert ("refused", EINVAL, "flags_known") == (
        judged(before, **words).outcome,
        judged(before, **words).errno,
        judged(before, **words).rule,
    )
    assert "flags_known" != judged(since, **words).rule


def test_d2_a_pending_mtf_is_not_saved_up_to_5_5_and_not_taken_back_by_5_6():
    blobs = {}
    for release in ("5.5", "5.6", "5.7"):
        vcpu = make_vcpu(release)
        vcpu.set_nested_state(vmx.base_blob())
        vcpu.operations.nested.mtf_pending = True
        blobs[release] = vcpu.get_nested_state()

    assert 0 == get(blobs["5.5"], "FLAGS") & MTF_PENDING
    assert MTF_PENDING == get(blobs["5.6"], "FLAGS") & MTF_PENDING
    assert (EINVAL, "flags_known") == outcome(make_vcpu("5.6"), blobs["5.6"])
    assert (0, "") == outcome(make_vcpu("5.7"), blobs["5.7"])


def test_d3_a_move_from_5_8_to_5_7_loses_the_deadline_without_an_error():
    there = moved("vmx-l2-timer", "5.8", "5.7")

    assert ("lost", 0) == (there.outcome, there.errno)
    assert {"preemption_timer", "preemption_timer_deadline"} <= {item.name for item in there.lost}
    assert "accepted" == moved("vmx-l2-timer", "5.8", "5.8").outcome


@pytest.mark.parametrize(("release", "cancelled"), [("4.19", True), ("5.0", True), ("5.1", False)])
def test_d3_get_stops_the_timer_of_a_running_l2_up_to_5_0(release, cancelled):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(shipped()["vmx-l2-timer"].blob.ljust(8320, b"\0"))

    assert vcpu.operations.nested.timer_runs

    vcpu.get_nested_state()

    assert cancelled != vcpu.operations.nested.timer_runs


def test_d4_the_evmcs_flag_of_4_20_is_refused_from_5_2_on_without_the_capability():
    """Up to 5.1 the flag says that the capability is enabled, even with no VMXON at all."""
    source = make_vcpu("4.20")
    source.enable_cap(KVM_CAP_EVMCS)
    blob = source.get_nested_state()

    assert (EVMCS, NONE_PA) == (get(blob, "FLAGS"), get(blob, "VMXON_PA"))

    destination = make_vcpu("5.2")

    assert (EINVAL, "evmcs_needs_capability") == outcome(destination, blob)

    destination.enable_cap(KVM_CAP_EVMCS)

    assert (0, "") == outcome(destination, blob)


def test_d4_the_evmcs_flag_of_5_2_enables_the_capability_on_5_0():
    vcpu = make_vcpu("5.0")

    assert not vcpu.operations.nested.evmcs_enabled

    outcome(vcpu, patched(FLAGS=EVMCS, VMCS12_PA=NONE_PA))

    assert vcpu.operations.nested.evmcs_enabled


@pytest.mark.parametrize(("release", "kept"), [("5.2", False), ("5.13", False), ("5.14", True)])
def test_d5_get_before_the_first_run_loses_the_evmcs_flag_before_5_14(release, kept):
    vcpu = make_vcpu(release)
    vcpu.enable_cap(KVM_CAP_EVMCS)

    assert (0, "") == outcome(vcpu, patched(FLAGS=EVMCS, VMCS12_PA=NONE_PA))
    assert (EVMCS if kept else 0) == get(vcpu.get_nested_state(), "FLAGS")
    assert kept == (vcpu.operations.nested.evmcs != EVMCS_NONE)


def test_d5_a_kernel_without_hyperv_refuses_enlightened_vmcs():
    blob = patched(FLAGS=EVMCS, VMCS12_PA=NONE_PA)

    assert (EINVAL, "evmcs_needs_capability") == outcome(make_vcpu("6.8", hyperv=False), blob)
    assert 0 == kvm("6.8", hyperv=False).check_extension(KVM_CAP_EVMCS)
    assert 1 == kvm("6.7", hyperv=False).check_extension(KVM_CAP_EVMCS)


@pytest.mark.parametrize("size", [1006, 1125])
def test_d6_a_size_of_1006_holds_a_vmcs12_up_to_5_0_and_none_from_5_1_on(size):
    blob = patched(SIZE=size)
    old, silent, strict = (make_vcpu(release) for release in ("5.0", "5.1", "5.8"))

    assert (0, "") == outcome(old, blob)
    assert old.operations.nested.guest_mode
    assert (0, "") == outcome(silent, blob)
    assert is_empty(silent)
    assert (EINVAL, "guest_mode_needs_vmcs12") == outcome(strict, blob)


@pytest.mark.parametrize(
    ("size", "release", "rule"),
    [
        (2003, "5.0", "size_covers_shadow_vmcs12"),
        (2004, "5.0", ""),
        (2123, "5.1", "size_covers_shadow_vmcs12"),
        (2124, "5.1", ""),
        (5221, "5.2", "size_covers_shadow_vmcs12"),
        (5222, "5.2", ""),
        (5222, "7.3", ""),
    ],
)
def test_d6_the_size_that_a_shadow_vmcs12_needs_grew_twice(size, release, rule):
    vcpu = make_vcpu(release)
    vcpu.memory.write(0x5000, SHADOW_REVISION.to_bytes(4, "little"))
    blob = patched(
        SIZE=size,
        VMCS_LINK_POINTER=0x5000,
        CPU_BASED_VM_EXEC_CONTROL=BASE_PROC | SECONDARY,
        SECONDARY_VM_EXEC_CONTROL=VMCS_SHADOWING,
        SHADOW_FIRST_WORD=SHADOW_REVISION,
    )

    assert rule == outcome(vcpu, blob)[1]


@pytest.mark.parametrize("release", ["4.20", "5.0", "5.1", "5.7"])
def test_d7_short_size_with_guest_mode_is_silently_empty_before_5_8(release):
    vcpu = make_vcpu(release)

    assert (0, "") == outcome(vcpu, patched(SIZE=1005))
    assert is_empty(vcpu)
    assert (EINVAL, "guest_mode_needs_vmcs12") == outcome(make_vcpu("5.8"), patched(SIZE=1005))


def test_d8_vmxon_without_a_vmcs_cannot_move_to_4_19():
    there = moved("vmx-l1-vmxon", "4.20", "4.19")

    assert ("refused", EINVAL, "size_covers_vmcs12") == (there.outcome, there.errno, there.rule)
    assert "accepted" == moved("vmx-l1-vmxon", "4.20", "5.0").outcome


def test_d8_not_even_a_full_size_helps_on_4_19():
    blob = patched(FLAGS=0, VMCS12_PA=NONE_PA)

    assert (EINVAL, "vmcs12_pa_page_address_first") == outcome(make_vcpu("4.19"), blob)


def test_d9_flags_without_vmxon_are_refused_from_5_2_on():
    blob = patched(**NO_VMXON | {"FLAGS": GUEST_MODE})

    assert (0, "") == outcome(make_vcpu("5.1"), blob)
    assert (EINVAL, "flags_without_vmxon") == outcome(make_vcpu("5.2"), blob)


@pytest.mark.parametrize(("release", "written"), [("4.19", 998), ("4.20", 998), ("5.0", 4096)])
def test_d10_get_leaves_the_end_of_the_page_to_the_caller_before_5_0(release, written):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(vmx.base_blob())
    buffer = bytearray(b"\xaa" * 8320)
    buffer[4:8] = (8320).to_bytes(4, "little")
    vcpu.get_nested_state_into(buffer)

    assert 4224 == get(buffer, "SIZE")
    assert b"\xaa" * (4096 - written) == bytes(buffer[128 + written : 4224])
    assert b"\xaa" not in buffer[128 : 128 + written]


def test_d11_any_flag_fails_in_smm_up_to_5_1():
    blob = patched(FLAGS=EVMCS, SMM_FLAGS=2)
    seen = {}
    for release in ("5.0", "5.1", "5.2"):
        vcpu = make_vcpu(release)
        vcpu.enable_cap(KVM_CAP_EVMCS)
        vcpu.set_vcpu_events(vcpu.get_vcpu_events().replaced(flags=VALID_SMM, smi_smm=1))
        seen[release] = outcome(vcpu, blob)

    assert {
        "5.0": (EINVAL, "no_flags_in_smm"),
        "5.1": (EINVAL, "no_flags_in_smm"),
        "5.2": (0, ""),
    } == seen


@pytest.mark.parametrize(
    ("release", "refused"),
    [
        *(("5.3", False), ("5.4", True), ("5.10", True), ("5.10.262", False)),
        *(("5.15", True), ("5.16", False), ("7.3", False)),
    ],
)
def test_d12_a_32_bit_l2_of_a_64_bit_l1_is_refused_from_5_4_to_5_15(release, refused):
    """The host-state check asks the vCPU's EFER.LMA, which SREGS has made L2's already."""
    verdict = judged(
        release,
        GUEST_CR0=CR0.PG | CR0.NE | CR0.ET | CR0.PE,
        GUEST_CR4=CR4.VMXE,
        VM_ENTRY_CONTROLS=BASE_ENTRY & ~IA32E_MODE_GUEST,
    )

    assert ("legacy_mode_excludes_64_bit_host" if refused else "") == verdict.rule


@pytest.mark.parametrize(
    ("release", "stale"),
    [("5.2", False), ("5.3", True), ("5.10", True), ("5.10.262", False), ("5.11", False)],
)
def test_d13_after_an_exit_get_gives_stale_segments_from_5_3_to_5_10(release, stale):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(patched(GUEST_ES_BASE=0x1000))
    vcpu.operations.loaded["GUEST_ES_BASE"] = 0x2000
    exit_to_l1(vcpu.operations, 10, 0)

    assert (0x1000 if stale else 0x2000) == get(vcpu.get_nested_state(), "GUEST_ES_BASE")


def test_d14_an_l2_that_waits_for_sipi_is_refused_before_5_11():
    words = {"GUEST_ACTIVITY_STATE": 3}

    assert ("refused", "guest_activity_active_or_hlt") == (
        judged("5.10", **words).outcome,
        judged("5.10", **words).rule,
    )
    assert "guest_activity_active_or_hlt" == judged("5.10.262", **words).rule
    assert "refused" != judged("5.11", **words).outcome


def test_d15_a_control_that_the_destination_does_not_offer_is_refused():
    """TSC scaling is L1's from 5.14 on; L1 may have probed it at boot, on another host."""
    words = {
        "CPU_BASED_VM_EXEC_CONTROL": BASE_PROC | SECONDARY,
        "SECONDARY_VM_EXEC_CONTROL": TSC_SCALING,
        "TSC_MULTIPLIER": 1 << 48,
    }

    assert "refused" != judged("5.14", **words).outcome
    assert "proc2_reserved" == judged("5.13", **words).rule


def test_d16_fields_that_a_kernel_does_not_know_pass_through_its_padding():
    blob = patched(TSC_MULTIPLIER=1 << 49, HOST_SSP=0x1234_5678)
    there = make_vcpu("4.19")

    assert (0, "") == outcome(there, blob)
    assert 1 << 49 == get(there.get_nested_state(), "TSC_MULTIPLIER")
    assert 0x1234_5678 == get(there.get_nested_state(), "HOST_SSP")


def test_d17_set_reads_the_pdptes_of_a_pae_l2_before_5_14():
    """Guest memory must be there before the state is, and must still hold what L2 loaded."""
    absent = patched(**PAE_WITHOUT_EPT, GUEST_CR3=1 << 30)

    assert (EINVAL, "l2_pdptes_backed") == outcome(make_vcpu("5.1"), absent)
    assert (2, "l2_pdptes_backed") == outcome(make_vcpu("5.13"), absent)
    assert (0, "") == outcome(make_vcpu("5.14"), absent)


@pytest.mark.parametrize(("release", "status"), [("4.19", EINVAL), ("5.14", 2), ("5.15", 0)])
def test_d18_a_restricted_l2_with_an_invalid_segment_is_not_entered_before_5_15(release, status):
    """A TR that is unusable: what a VMM that has not restored SREGS yet can have there."""
    rule = "l2_tr_usable" if status else ""

    assert (status, rule) == outcome(make_vcpu(release), patched(GUEST_TR_AR_BYTES=0x1_008B))


@pytest.mark.parametrize(
    ("release", "kept"), [("5.10", False), ("5.10.262", True), ("5.19", False), ("6.0", True)]
)
def test_d19_debugctl_is_lost_where_no_entry_is_pending_before_6_0(release, kept):
    vcpu = make_vcpu(release)
    vcpu.operations.loaded["GUEST_IA32_DEBUGCTL"] = 0x1
    vcpu.set_nested_state(
        patched(FLAGS=GUEST_MODE, VM_ENTRY_CONTROLS=BASE_ENTRY | LOAD_DEBUG_CONTROLS)
    )

    assert (int(kept),) == vcpu.get_msrs([MSR_DEBUGCTL])


# D: breaks between releases, AMD -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("release", "kept"), [("5.8", False), ("5.10", False), ("5.10.262", False), ("5.11", True)]
)
def test_d21_a_pending_vmrun_is_forgotten_before_5_11(release, kept):
    vcpu = svm.make_vcpu(release)
    vcpu.set_nested_state(svm.patched(FLAGS=GUEST_MODE | RUN_PENDING | GIF_SET))

    assert kept == bool(svm.get(vcpu.get_nested_state(), "FLAGS") & RUN_PENDING)
    assert kept == vcpu.operations.nested.run_pending


@pytest.mark.parametrize(
    ("release", "gif"),
    [
        *(("5.8", False), ("5.9", False), ("5.10", True), ("5.10.262", True)),
        *(("5.11", True), ("5.12", True), ("5.13", False), ("7.3", False)),
    ],
)
def test_d22_gif_stays_as_it_was_in_guest_mode_from_5_10_to_5_12(release, gif):
    """The state says GIF=0; the vCPU had 1."""
    vcpu = svm.make_vcpu(release)
    vcpu.set_nested_state(svm.patched(FLAGS=GUEST_MODE))

    assert gif == bool(svm.get(vcpu.get_nested_state(), "FLAGS") & GIF_SET)


@pytest.mark.parametrize(("release", "kept"), [("5.8", False), ("5.19", False), ("6.0", True)])
def test_d23_next_rip_travels_from_6_0_on(release, kept):
    blob = svm.base_blob()
    blob[128 + 0xC8 : 128 + 0xD0] = (0x1234_5678).to_bytes(8, "little")
    vcpu = svm.make_vcpu(release)
    vcpu.set_nested_state(blob)
    back = vcpu.get_nested_state()

    assert (0x1234_5678 if kept else 0) == int.from_bytes(back[128 + 0xC8 : 128 + 0xD0], "little")


def test_d24_gif_clear_without_svme_moves_to_no_kernel_before_7_0():
    header = svm.patched(FLAGS=0, SIZE=128)[:128]

    assert (0, "") == outcome(svm.make_vcpu("7.0", svme=False), header)
    for release in ("5.8", "6.19"):
        vcpu = svm.make_vcpu(release, svme=False)

        assert (EINVAL, "without_svme_only_gif") == outcome(vcpu, header)


@pytest.mark.parametrize("value", [3, 7])
@pytest.mark.parametrize(
    ("release", "refused"),
    [
        *(("5.15", False), ("5.16", True), ("6.1", True), ("6.1.192", False)),
        *(("6.6", True), ("6.7", False)),
    ],
)
def test_d25_flush_by_asid_is_refused_from_5_16_to_6_6(release, refused, value):
    _, rule = outcome(svm.make_vcpu(release), svm.patched(TLB_CTL=value))

    assert ("tlb_ctl_known" if refused else "") == rule


def test_d26_an_old_kernel_gives_a_new_one_a_pat_of_uncacheable_memory():
    """0 is a valid PAT, eight times UC: nothing refuses it."""
    nested_paging = {"MISC_CTL": 1, "GPAT": 0x0007_0406_0007_0406}
    old, new = own_pat("7.1"), own_pat("7.2")

    assert (0, "") == outcome(old, svm.patched(**nested_paging))
    assert 0 == svm.get(old.get_nested_state(), "GPAT")
    assert (0, "") == outcome(new, old.get_nested_state())
    assert 0 == svm.get(new.get_nested_state(), "GPAT")
    assert 0 == new.operations.vmcb02["g_pat"]


def test_d26_a_new_kernels_pat_is_dropped_by_an_old_one():
    pat = 0x0007_0406_0007_0406
    new = own_pat("7.2")

    assert (0, "") == outcome(new, svm.patched(MISC_CTL=1, GPAT=pat))
    assert pat == svm.get(new.get_nested_state(), "GPAT")

    old = own_pat("7.1")

    assert (0, "") == outcome(old, new.get_nested_state())
    assert 0 == svm.get(old.get_nested_state(), "GPAT")


def test_d26_with_the_quirk_nothing_but_the_default_travels():
    new = svm.make_vcpu("7.2")

    assert (0, "") == outcome(new, svm.patched(MISC_CTL=1, GPAT=0x0202_0202_0202_0202))
    assert 0 == svm.get(new.get_nested_state(), "GPAT")


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ({"CR0": CR0.PG}, "cr0_pe"),
        ({"RFLAGS": 1 << 17}, "rflags_vm"),
        ({"DR6": 1 << 32}, "dr6_upper_half"),
        ({"CR4": CR4.PAE | 1 << 63}, "cr4_reserved"),
    ],
)
def test_d27_garbage_in_l1s_registers_is_refused_from_5_13_on(words, rule):
    assert (0, "") == outcome(svm.make_vcpu("5.12"), svm.patched(**words))
    assert (EINVAL, rule) == outcome(svm.make_vcpu("5.13"), svm.patched(**words))


@pytest.mark.parametrize("release", ["5.8", "7.3"])
def test_d28_a_state_of_the_other_vendor_is_refused(release):
    amd = svm.base_blob().ljust(8320, b"\0")

    assert (EINVAL, "format_is_vmx") == outcome(make_vcpu(release), amd)
    assert (EINVAL, "format_is_svm") == outcome(svm.make_vcpu(release), vmx.base_blob())


@pytest.mark.parametrize(
    ("release", "reported"), [("5.7", 0), ("5.8", 8320), ("7.1", 8320), ("7.2", 0)]
)
def test_d29_with_nested_off_a_size_is_reported_from_5_8_to_7_1(release, reported):
    off = kvm(release, nested=False)
    vcpu = new_vcpu(off)

    assert reported == off.check_extension(KVM_CAP_NESTED_STATE)

    empty, full = patched(**NO_VMXON), vmx.base_blob()
    refused = (EINVAL, "nested_state_offered")

    assert ((0, "") if reported else refused) == outcome(vcpu, empty)
    assert ((EINVAL, "vmxon_needs_guest_vmx") if reported else refused) == outcome(vcpu, full)


def test_d29_on_amd_with_nested_off():
    sizes = {
        release: kvm(release, "epyc-milan", nested=False).check_extension(KVM_CAP_NESTED_STATE)
        for release in ("5.7", "5.8", "7.1", "7.2")
    }

    assert {"5.7": 0, "5.8": 4224, "7.1": 4224, "7.2": 0} == sizes


# D: what travels beside nested state -------------------------------------------------------------
@pytest.mark.parametrize(("release", "delivered"), [("5.5", False), ("5.6", True)])
def test_d30_without_the_capability_a_pending_page_fault_looks_injected(release, delivered):
    """L1 can no longer intercept it; from 5.6 on CR2 has the address at least."""
    vcpu = make_vcpu(release)
    vcpu.vm.enable_cap(KVM_CAP_EXCEPTION_PAYLOAD, 1)
    pending = vcpu.get_vcpu_events().replaced(
        flags=VALID_PAYLOAD,
        exception_pending=1,
        exception_nr=14,
        exception_has_payload=1,
        exception_payload=0x7000,
    )
    vcpu.set_vcpu_events(pending)

    assert (0, 1) == (
        vcpu.get_vcpu_events().exception_injected,
        vcpu.get_vcpu_events().exception_pending,
    )
    assert 0 == vcpu.get_sregs().cr2

    vcpu.vm.enable_cap(KVM_CAP_EXCEPTION_PAYLOAD, 0)
    events = vcpu.get_vcpu_events()

    assert (1, 0) == (events.exception_injected, events.flags & VALID_PAYLOAD)
    assert (0x7000 if delivered else 0) == vcpu.get_sregs().cr2


def test_d31_a_pending_triple_fault_travels_from_6_0_on_where_it_is_enabled():
    with pytest.raises(KvmError) as refusal:
        make_vcpu("5.19").vm.enable_cap(KVM_CAP_TRIPLE_FAULT_EVENT, 1)

    assert "vm_capability_known" == refusal.value.rule

    vcpu = make_vcpu("6.0")
    vcpu.vm.enable_cap(KVM_CAP_TRIPLE_FAULT_EVENT, 1)
    vcpu.set_vcpu_events(
        vcpu.get_vcpu_events().replaced(flags=VALID_TRIPLE_FAULT, triple_fault_pending=1)
    )

    assert 1 == vcpu.get_vcpu_events().triple_fault_pending


def test_d32_qemu_asks_the_maximum_and_refuses_a_state_above_its_own():
    state = Record(bytes(vmx.base_blob()))

    QEMU.admit(state, kvm("4.19"))
    with pytest.raises(KvmError) as refusal:
        QEMU.admit(Record(b"\0" * 4 + (8321).to_bytes(4, "little")), kvm("7.3"))

    assert "qemu_size_within_maximum" == refusal.value.rule

    with pytest.raises(KvmError) as refusal:
        QEMU.admit(state, kvm("7.3", nested=False))

    assert "qemu_kernel_has_nested_state" == refusal.value.rule


def test_d33_cr4_vmxe_needs_cpuid_first_from_5_9_on():
    """A VMM that sets SREGS before CPUID restores nested guests on old kernels only."""
    found = {
        release: sregs_refusal(without(kvm(release), "VMX"), cr4=CR4.PAE | CR4.VMXE)
        for release in ("5.4", "5.8", "5.9", "7.3")
    }

    assert {"5.4": "", "5.8": "", "5.9": "sregs_cr4_reserved", "7.3": "sregs_cr4_reserved"} == found


@pytest.mark.parametrize(
    ("release", "status"),
    [("4.19", EINVAL), ("5.1", EINVAL), ("5.2", 1), ("5.3", 1), ("5.4", 2), ("7.3", 2)],
)
def test_d34_where_l2_is_not_entered_the_ioctl_returns_a_positive_number(release, status):
    """A VMM that only asks for a negative value takes it for success."""
    vcpu = make_vcpu(release)
    result, rule = outcome(vcpu, patched(GUEST_CR3=1 << 60))

    assert status == result
    assert rule.endswith("cr3_width")
    assert not vcpu.operations.nested.guest_mode

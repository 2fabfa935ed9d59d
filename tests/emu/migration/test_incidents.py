"""Incidents that users met, replayed on the kernels concerned: nested state (N), policies (P).

What needs a processor to execute guest code is not here.
"""

from errno import EINVAL

import pytest

from emu.errors import KvmError
from emu.kvm import Kvm
from emu.kvm.control_registers import CR0, CR4, EFER
from emu.kvm.cpu_models import host_of
from emu.kvm.host import ModuleParameters
from emu.kvm.nested_vmx.sync import exit_to_l1
from emu.kvm.structs import SREGS2_FLAGS_PDPTRS_VALID, Sregs
from emu.migration.capture import shipped
from emu.migration.guest import load_state, new_vcpu
from emu.migration.migrate import migrate
from emu.migration.policy import Record, policy
from emu.releases import RELEASES
from emu.releases.kernel_file import parse_kernel
from tests.emu.kvm import svm_support as svm
from tests.emu.kvm import vmx_support as vmx
from tests.emu.kvm.svm_support import GIF_SET
from tests.emu.kvm.vmx_support import (
    GUEST_MODE,
    NONE_PA,
    RUN_PENDING,
    get,
    make_vcpu,
    outcome,
    patched,
)
from tests.emu.migration.replay_support import (
    FLAGS,
    KVM_CAP_EXCEPTION_PAYLOAD,
    KVM_CAP_NESTED_STATE,
    KVM_CAP_TRIPLE_FAULT_EVENT,
    MSR_FEATURE_CONTROL,
    MSR_TRUE_PIN,
    MSR_TSC,
    NO_VMXON,
    QEMU,
    VALID_PAYLOAD,
    VALID_TRIPLE_FAULT,
    kvm,
    moved,
    own_pat,
    sregs_refusal,
    without,
)


# N: incidents of nested state --------------------------------------------------------------------
def test_n01_registers_without_nested_state_leave_l1_with_the_registers_of_l2():
    source = make_vcpu("5.4")
    source.set_nested_state(patched(GUEST_RIP=0x2222, HOST_RIP=0x1111, GUEST_CR3=0x20000))
    arrived = make_vcpu("5.4")
    arrived.set_sregs(source.get_sregs())
    arrived.set_regs(source.get_regs())

    assert not arrived.operations.nested.in_vmx_operation
    assert 0x2222 == arrived.get_regs().rip
    assert 0x20000 == arrived.get_sregs().cr3


@pytest.mark.parametrize(("release", "stale"), [("5.1", True), ("5.2", True), ("5.3", False)])
def test_n02_a_request_for_l2s_pages_outlives_nested_state_before_5_3(release, stale):
    """QEMU 4.1-rc pushed nested state at every reset: guest mode, then none, then a run."""
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(vmx.base_blob())
    vcpu.set_nested_state(patched(**NO_VMXON))

    assert not vcpu.operations.nested.in_vmx_operation
    assert stale == vcpu.operations.nested.pages_requested


def test_n03_gif_among_the_flags_of_a_vmx_state_is_refused():
    """QEMU 5.1-rc set the flag in every header, also of an L1 that has never executed VMXON."""
    blob = patched(**NO_VMXON | {"FLAGS": GIF_SET})

    assert (EINVAL, "flags_known") == outcome(make_vcpu("5.7"), blob)
    assert (EINVAL, "flags_without_vmxon") == outcome(make_vcpu("5.8"), blob)


def test_n04_qemu_lets_a_state_of_the_wrong_format_pass_and_the_kernel_refuses_it():
    blob = bytearray(shipped()["svm-l2-running"].blob)
    blob[2:4] = (0).to_bytes(2, "little")
    kernel = kvm("5.8", "epyc-milan")

    QEMU.admit(Record(bytes(blob)), kernel)
    with pytest.raises(KvmError) as refusal:
        load_state(new_vcpu(kernel), bytes(blob))

    assert "format_is_svm" == refusal.value.rule


@pytest.mark.parametrize(("release", "ends"), [("5.7", 300), ("5.8", 100)])
def test_n05_before_5_8_the_preemption_timer_starts_again(release, ends):
    """100 units were left of 1000 and VMCS12 says 200; a running L2 is moved with the clock."""
    blob = bytearray(shipped()["vmx-l2-timer"].blob.ljust(8320, b"\0"))
    vmx.put(blob, "VMX_PREEMPTION_TIMER_VALUE", 200)
    vmx.put(blob, "DEADLINE", 100)
    vcpu = make_vcpu(release)
    vcpu.set_msrs([(MSR_TSC, 100 << 5)])
    vcpu.set_nested_state(blob)

    assert ends == vcpu.operations.nested.deadline


def test_n06_garbage_of_an_old_vmm_in_the_padding_is_refused_where_a_word_was_put():
    """The word at byte 28 was padding before 5.8; bytes 26 and 27 still are."""
    at_28, at_26 = vmx.base_blob(), vmx.base_blob()
    at_28[28:32] = b"\xcd" * 4
    at_26[26:28] = b"\xcd" * 2

    assert (0, "") == outcome(make_vcpu("5.7"), at_28)
    assert (EINVAL, "vmx_header_flags_known") == outcome(make_vcpu("5.8"), at_28)
    assert (0, "") == outcome(make_vcpu("5.8"), at_26)
    assert (0, "") == outcome(make_vcpu("7.3"), at_26)


def test_n07_a_qemu_stream_loses_the_timer_between_kernels_that_both_have_it():
    through_qemu = moved("vmx-l2-timer", "6.12", "6.12", QEMU)

    assert "accepted" == moved("vmx-l2-timer", "6.12", "6.12").outcome
    assert "lost" == through_qemu.outcome
    assert "preemption_timer_deadline" in {item.name for item in through_qemu.lost}


def test_n09_an_event_that_l1_injected_is_not_retried_before_5_11():
    """EVENT_INJ arrives valid, but nothing says that VMRUN is not complete."""
    injected = {"FLAGS": GUEST_MODE | RUN_PENDING | GIF_SET, "EVENT_INJ": 0x8000_0030}
    old, new = svm.make_vcpu("5.10"), svm.make_vcpu("5.11")

    assert (0, "") == outcome(old, svm.patched(**injected))
    assert (0, "") == outcome(new, svm.patched(**injected))
    assert 0x8000_0030 == svm.get(old.get_nested_state(), "EVENT_INJ")
    assert not old.operations.nested.run_pending
    assert new.operations.nested.run_pending


@pytest.mark.parametrize(
    ("release", "stale"), [("5.3", True), ("5.10", True), ("5.10.262", False), ("5.11", False)]
)
def test_n10_a_request_for_l2s_pages_outlives_an_exit_to_l1_before_5_11(release, stale):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(vmx.base_blob())

    assert vcpu.operations.nested.pages_requested

    exit_to_l1(vcpu.operations, 1, 0)

    assert stale == vcpu.operations.nested.pages_requested


def test_n11_pdptrs_come_from_memory_that_has_changed_unless_sregs2_brings_them():
    """Memory holds other PDPTEs than those that the guest loaded with CR3."""
    loaded, later = (0x1001, 0x2001, 0x3001, 0x4001), 0x9001
    pae = {"cr0": CR0.PG | CR0.PE | CR0.ET | CR0.NE, "cr3": 0x10000, "cr4": CR4.PAE, "efer": 0}
    vcpu = new_vcpu(kvm("5.14"))
    vcpu.memory.write(0x10000, later.to_bytes(8, "little") + bytes(24))
    saved = Sregs(**{**vars(vcpu.get_sregs()), **pae})
    vcpu.set_sregs(saved)

    assert (later, 0, 0, 0) == vcpu.get_sregs2().pdptrs

    with_pdptrs = {"flags": SREGS2_FLAGS_PDPTRS_VALID, "pdptrs": loaded}
    vcpu.set_sregs2(Sregs(**{**vars(saved), **with_pdptrs}))

    assert loaded == vcpu.get_sregs2().pdptrs

    with pytest.raises(KvmError) as refusal:
        new_vcpu(kvm("5.13")).set_sregs2(saved)

    assert "sregs2_known" == refusal.value.rule


def test_n13_a_vmm_that_keeps_the_migrated_state_puts_l2_back_at_reset():
    """IA32_FEATURE_CONTROL = 0 leaves VMX operation; the state that is pushed again undoes it."""
    blob = shipped()["vmx-l2-running"].blob.ljust(8320, b"\0")
    vcpu = make_vcpu("6.1")
    vcpu.set_nested_state(blob)
    vcpu.set_msrs([(MSR_FEATURE_CONTROL, 0)])

    assert not vcpu.operations.nested.in_vmx_operation

    vcpu.set_nested_state(blob)

    assert vcpu.operations.nested.guest_mode


def test_n14_a_vmm_that_drops_a_header_without_data_takes_l1_out_of_vmx_operation():
    capture = shipped()["vmx-l1-vmxon"]
    there = moved(capture.name, "6.12", "6.12")
    alone = new_vcpu(kvm("6.12"))

    assert 128 == len(there.arrived.blob)
    assert 1 == there.held["vmxon"]
    assert NONE_PA == get(alone.get_nested_state(), "VMXON_PA")


def test_n14_a_vmm_that_drops_a_header_without_data_lets_interrupts_through_to_l1():
    there = moved("svm-l1-gif-clear", "6.12", "6.12")
    alone = svm.make_vcpu("6.12")

    assert 128 == len(there.arrived.blob)
    assert 0 == there.held["gif"]
    assert GIF_SET == svm.get(alone.get_nested_state(), "FLAGS")


@pytest.mark.parametrize("release", ["5.4", "7.3"])
def test_n15_capability_msrs_are_refused_once_nested_state_is_restored(release):
    vcpu = make_vcpu(release)
    values = vcpu.get_msrs([MSR_TRUE_PIN])

    assert 1 == vcpu.set_msrs([(MSR_TRUE_PIN, *values)])

    vcpu.set_nested_state(patched(FLAGS=0, VMCS12_PA=NONE_PA, SIZE=128))

    assert 0 == vcpu.set_msrs([(MSR_TRUE_PIN, *values)])
    assert (MSR_TRUE_PIN, "vmx_msr_outside_vmx_operation") == vcpu.refused_msr


@pytest.mark.parametrize("source", ["7.1", "7.2"])
@pytest.mark.parametrize("destination", ["7.1", "7.2"])
def test_n16_l2_keeps_its_pat_only_between_kernels_that_both_give_it_one(source, destination):
    pat = 0x0007_0406_0007_0406
    left, arrived = own_pat(source), own_pat(destination)
    left.set_nested_state(svm.patched(MISC_CTL=1, GPAT=pat))
    arrived.set_nested_state(left.get_nested_state())
    kept = source == destination == "7.2"

    assert (pat if kept else 0) == svm.get(arrived.get_nested_state(), "GPAT")


def test_n17_a_vmm_that_returns_nothing_restores_a_dead_guest():
    """The blob is dropped on the way: the checker compares what the guest held."""
    dropping = FLAGS._replace(name="drop", save=lambda _source, _destination: Record(b""))
    there = moved("vmx-l2-running", "6.12", "6.12", dropping)

    assert ("lost", 0) == (there.outcome, there.errno)
    assert {"guest_mode", "vmxon"} <= {item.name for item in there.lost}


def test_n18_registers_that_5_10_let_pass_are_refused_by_5_11():
    """PCIDE without PCID, CR3 beyond the guest's width in long mode."""
    bad_cr4 = {"cr4": CR4.PAE | CR4.PCIDE}
    long_mode = {
        "cr0": CR0.PG | CR0.PE | CR0.ET | CR0.NE,
        "cr4": CR4.PAE,
        "efer": EFER.LME | EFER.LMA,
    }

    def refusals(release):
        return (
            sregs_refusal(without(kvm(release), "PCID"), **bad_cr4),
            sregs_refusal(new_vcpu(kvm(release)), cr3=1 << 60, **long_mode),
        )

    assert ("", "") == refusals("5.10")
    assert ("sregs_cr4_reserved", "sregs_long_mode_cr3_width") == refusals("5.11")
    assert refusals("5.11") == refusals("5.10.262")


@pytest.mark.parametrize(
    ("release", "refused"),
    [("6.12", False), ("6.12.115", True), ("6.18", False), ("7.1", False), ("7.2", True)],
)
def test_n19_svme_without_svm_is_refused_where_efer_is_checked(release, refused):
    kernel = kvm(release, "epyc-milan")
    vcpu = new_vcpu(kernel)
    vcpu.set_cpuid2(kernel.get_supported_cpuid().cleared(0x8000_0001, 0, 2, 1 << 2))

    assert ("sregs_efer_reserved" if refused else "") == sregs_refusal(vcpu, efer=EFER.SVME)


# P: how the format is versioned ------------------------------------------------------------------
GPAT = """
name = "7.1-gpat"
base = "7.1"
[[grow]]
place = "header"
name = "gpat"
format = "svm"
offset = 24
width = 8
sample = 0x0007040600070406
"""


def grown(how):
    """Kernel 7.1 with a PAT of L2's own in a free header word, announced as `how` does."""
    kernel = how.announce(parse_kernel(GPAT, "gpat.toml"))
    return Kvm(kernel, host_of("epyc-milan", RELEASES["7.1"], ModuleParameters(nested=True)))


def test_p02_qemu_takes_any_size_up_to_its_own_maximum():
    maximum = {kvm(name).check_extension(KVM_CAP_NESTED_STATE) for name in vmx.VMX_RELEASES}

    assert {8320} == maximum
    assert "accepted" == moved("vmx-l2-running", "7.3", "4.19", QEMU).outcome


def test_p03_a_word_of_the_header_with_a_validity_bit_is_read_by_those_who_know_it():
    """What was decided for the preemption timer: old kernels ignore the word, and say nothing."""
    blob = shipped()["vmx-l2-timer"].blob.ljust(8320, b"\0")
    invalid = bytearray(blob)
    vmx.put(invalid, "VMX_HEADER_FLAGS", 0)
    deadlines = {}
    for release in ("5.7", "5.8"):
        for name, state in (("valid", blob), ("invalid", invalid)):
            vcpu = make_vcpu(release)
            vcpu.set_nested_state(state)
            deadlines[release, name] = get(vcpu.get_nested_state(), "DEADLINE")

    wanted = get(blob, "DEADLINE")

    assert 0 != wanted
    assert wanted == deadlines["5.8", "valid"]
    assert wanted != deadlines["5.8", "invalid"]
    assert {0} == {deadlines["5.7", "valid"], deadlines["5.7", "invalid"]}


def test_p04_a_flag_for_gpat_breaks_every_move_back_and_a_quirk_does_not():
    capture, old = shipped()["svm-l2-running"], kvm("7.1", "epyc-milan")
    flags, quirk = policy("flags"), policy("quirk")
    by_flag = migrate(capture, grown(flags), old, flags)
    by_quirk = migrate(capture, grown(quirk), old, quirk)

    assert ("refused", "flags_known") == (by_flag.outcome, by_flag.rule)
    assert ("accepted", ("gpat",)) == (by_quirk.outcome, by_quirk.withheld)
    assert "accepted" == migrate(capture, grown(quirk), grown(quirk), quirk).outcome


def test_p05_a_version_lets_states_move_to_newer_kernels_only():
    version = policy("version")
    forth = moved("vmx-l2-running", "5.7", "5.8", version)
    back = moved("vmx-l2-running", "5.8", "5.7", version)

    assert "accepted" == forth.outcome
    assert ("refused", "receive", "version_known") == (back.outcome, back.stage, back.rule)
    assert "accepted" == moved("vmx-l2-running", "5.8", "5.7").outcome


def test_p06_new_event_fields_appear_only_where_user_space_asks_for_them():
    vcpu = make_vcpu("6.0")
    new = VALID_PAYLOAD | VALID_TRIPLE_FAULT

    assert 0 == vcpu.get_vcpu_events().flags & new

    vcpu.vm.enable_cap(KVM_CAP_EXCEPTION_PAYLOAD, 1)
    vcpu.vm.enable_cap(KVM_CAP_TRIPLE_FAULT_EVENT, 1)

    assert new == vcpu.get_vcpu_events().flags & new

from dataclasses import replace

import pytest

from emu.errors import KvmError
from emu.kvm.control_registers import CR0, CR4, EFER
from emu.kvm.sregs_rules import SREGS_RULES, WORDS
from emu.kvm.structs import (
    SREGS2_FLAGS_PDPTRS_VALID,
    DebugRegs,
    DescriptorTable,
    Regs,
    Segment,
    Sregs,
    VcpuEvents,
)
from emu.kvm.vcpu import sregs_program
from emu.releases import RELEASES
from tests.emu.kvm.vmx_support import L1, base_blob, make_vcpu
from tests.reference.breaking import break_alone
from tests.reference.naive_checks import failures
from vmcs.checks import Kind

VALID_SMM, VALID_PAYLOAD, VALID_TRIPLE_FAULT = 0x8, 0x10, 0x20
MP_RUNNABLE, MP_UNINITIALIZED, MP_INIT_RECEIVED, MP_HALTED, MP_SIPI_RECEIVED = range(5)
SREGS_CHECKS = [row.name for row in SREGS_RULES if row.kind is Kind.CHECK]


def releases_with(rule):
    having = [name for name, kernel in RELEASES.items() if kernel.has("sregs_rules", rule)]
    return sorted({having[0], having[-1]}, key=having.index)


def refused(ioctl, *arguments):
    """Errno and rule of a refused ioctl."""
    with pytest.raises(KvmError) as refusal:
        ioctl(*arguments)
    return refusal.value.errno, refusal.value.rule


def good_sregs():
    cr0, cr3, cr4, efer = L1
    return dict.fromkeys(WORDS, 0) | {
        "CR0": cr0,
        "CR3": cr3,
        "CR4": cr4 & ~CR4.VMXE,
        "EFER": efer,
        "APIC_BASE": 0xFEE0_0900,
        "APIC_BASE_CHANGES": 1,
        "ONE": 1,
        "CR3_RESERVED": 0xFFFF_FF00_0000_0000,
        "CR4_RESERVED": 0xFFFF_FFFF_FF00_0000,
        "EFER_RESERVED": 0xFFFF_F000,
        "APIC_BASE_RESERVED": 0xFFFF_FF00_0000_02FF,
        "HAS_XSAVE": 1,
        "CR0_FIXED0": 0x21,
        "CR0_FIXED1": 0xFFFF_FFFF,
        "CR4_FIXED0": 0x2000,
        "CR4_FIXED1": 0x3727FF,
    }


@pytest.mark.parametrize(
    ("rule", "release"), [(rule, name) for rule in SREGS_CHECKS for name in releases_with(rule)]
)
def test_breaking_one_rule_of_set_sregs_names_it_and_no_other(rule, release):
    enforced = RELEASES[release].names("sregs_rules")
    rows = [row for row in SREGS_RULES if row.kind is Kind.LET or row.name in enforced]
    words = break_alone(rows, good_sregs(), rule)

    assert words is not None
    assert [rule] == failures(rows, words)

    program = sregs_program(RELEASES[release])

    assert rule == program.walk(program.words(words)).name


def test_every_rule_of_set_sregs_is_enforced_by_some_release():
    enforced = {name for kernel in RELEASES.values() for name in kernel.names("sregs_rules")}

    assert set(SREGS_CHECKS) == enforced


def test_refused_sregs_change_nothing():
    vcpu = make_vcpu("7.2")
    before = vcpu.get_sregs()
    bad = replace(before, cr3=1 << 60, cr2=5, efer=before.efer)

    assert (22, "sregs_long_mode_cr3_width") == refused(vcpu.set_sregs, bad)
    assert before == vcpu.get_sregs()


def test_sregs_come_back_as_they_were_set():
    vcpu = make_vcpu("7.2")
    segment = Segment(base=0x1000, limit=0xFFFF, selector=16, type=3, present=1, s=1, db=1, g=1)
    wanted = replace(
        vcpu.get_sregs(),
        ds=segment,
        gdt=DescriptorTable(0x2000, 0x7F),
        cr2=0x1234,
        cr3=0x12000,
        cr8=5,
        interrupt=0x31,
    )
    vcpu.set_sregs(wanted)

    assert wanted == vcpu.get_sregs()
    assert wanted == Sregs.from_bytes(wanted.to_bytes())
    assert 312 == len(wanted.to_bytes())


def test_vmxe_in_smm_is_refused_or_dropped_by_release():
    old, new = make_vcpu("5.10"), make_vcpu("5.11")
    for vcpu in (old, new):
        vcpu.smm = True
        vcpu.operations.set_cr4(CR4.PAE)
    wanted = replace(old.get_sregs(), cr4=CR4.PAE | CR4.VMXE)
    old.set_sregs(wanted)

    assert CR4.PAE == old.read_cr4()
    assert (22, "sregs_cr4_vmxe_in_smm") == refused(new.set_sregs, wanted)


def test_sregs2_gives_and_takes_the_pdptrs_of_pae_paging():
    vcpu = make_vcpu("6.12")
    off = replace(vcpu.get_sregs2(), cr0=CR0.PE | CR0.ET | CR0.NE, efer=0, cs=Segment(present=1))
    vcpu.set_sregs2(off)
    pae = replace(off, cr0=off.cr0 | CR0.PG, flags=SREGS2_FLAGS_PDPTRS_VALID, pdptrs=(1, 2, 3, 4))
    vcpu.set_sregs2(pae)

    assert (1, 2, 3, 4) == vcpu.get_sregs2().pdptrs
    assert vcpu.pdptrs_from_user_space
    assert (22, "sregs2_flags_known") == refused(vcpu.set_sregs2, replace(pae, flags=2))

    long_mode = replace(make_vcpu("6.12").get_sregs2(), flags=SREGS2_FLAGS_PDPTRS_VALID)

    assert (22, "sregs2_pdptrs_only_with_pae") == refused(vcpu.set_sregs2, long_mode)
    assert (25, "sregs2_known") == refused(make_vcpu("5.11").get_sregs2)


def test_regs_come_back_as_they_were_set():
    vcpu = make_vcpu("6.12")
    wanted = Regs(rax=1, rsp=0x8000, rip=0x1000, r15=7, rflags=0x202)
    vcpu.set_regs(wanted)

    assert wanted == vcpu.get_regs()


# Events -------------------------------------------------------------------------------------------
def test_events_come_back_as_they_were_set():
    vcpu = make_vcpu("6.12")
    events = VcpuEvents(exception_injected=1, exception_nr=14, nmi_masked=1, flags=0)
    vcpu.set_vcpu_events(events)
    back = vcpu.get_vcpu_events()

    assert (1, 14, 1) == (back.exception_injected, back.exception_nr, back.nmi_masked)
    assert back == VcpuEvents.from_bytes(back.to_bytes())
    assert 64 == len(back.to_bytes())


@pytest.mark.parametrize(
    ("release", "flags", "rule"),
    [
        ("4.19", VALID_PAYLOAD, "events_flags_known"),
        ("4.20", VALID_PAYLOAD, "events_payload_enabled"),
        ("5.19", VALID_TRIPLE_FAULT, "events_flags_known"),
        ("6.0", VALID_TRIPLE_FAULT, "events_triple_fault_enabled"),
        ("7.3", 0x40, "events_flags_known"),
    ],
)
def test_flags_of_events_by_release(release, flags, rule):
    vcpu = make_vcpu(release)

    assert (22, rule) == refused(vcpu.set_vcpu_events, VcpuEvents(flags=flags))


def test_an_exception_vector_above_31_or_of_nmi_is_refused():
    vcpu = make_vcpu("6.12")
    for vector in (2, 32):
        events = VcpuEvents(exception_injected=1, exception_nr=vector)

        assert (22, "events_exception_vector") == refused(vcpu.set_vcpu_events, events)


@pytest.mark.parametrize(("release", "left"), [("5.16", False), ("5.17", True), ("5.10.262", True)])
def test_a_change_of_smm_leaves_nested_by_release(release, left):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(base_blob())
    vcpu.set_vcpu_events(VcpuEvents(flags=VALID_SMM, smi_smm=1))

    assert left != vcpu.operations.nested.vmxon


@pytest.mark.parametrize(("release", "accepted"), [("6.16", False), ("6.17", True)])
def test_smm_while_waiting_for_sipi_by_release(release, accepted):
    vcpu = make_vcpu(release)
    vcpu.set_mp_state(MP_INIT_RECEIVED)
    events = VcpuEvents(flags=VALID_SMM, smi_smm=1)
    if accepted:
        vcpu.set_vcpu_events(events)

        assert vcpu.smm
    else:
        assert (22, "events_smm_while_waiting_for_sipi") == refused(vcpu.set_vcpu_events, events)


# MP state -----------------------------------------------------------------------------------------
def test_mp_state_values_by_release():
    old, new = make_vcpu("5.19"), make_vcpu("6.0")
    old.set_mp_state(7)

    assert 7 == old.get_mp_state()
    assert (22, "mp_state_known") == refused(new.set_mp_state, 7)


@pytest.mark.parametrize(("release", "accepted"), [("5.4", True), ("5.5", False), ("6.17", True)])
def test_waiting_for_sipi_in_vmx_root_operation_by_release(release, accepted):
    vcpu = make_vcpu(release)
    blob = base_blob()
    blob[0:2] = bytes(2)
    vcpu.set_nested_state(blob)
    if accepted:
        vcpu.set_mp_state(MP_INIT_RECEIVED)

        assert MP_INIT_RECEIVED == vcpu.mp_state
    else:
        assert (22, "mp_state_while_init_latched") == refused(vcpu.set_mp_state, MP_INIT_RECEIVED)


def test_a_sipi_starts_a_waiting_vcpu():
    vcpu = make_vcpu("6.12")
    vcpu.set_mp_state(MP_SIPI_RECEIVED)

    assert MP_RUNNABLE == vcpu.get_mp_state()


def test_mp_state_of_l2_becomes_the_activity_state():
    vcpu = make_vcpu("6.12")
    vcpu.set_nested_state(base_blob())
    vcpu.set_mp_state(MP_HALTED)
    vcpu.get_nested_state()

    assert 1 == vcpu.operations.nested.vmcs12["GUEST_ACTIVITY_STATE"]


# Debug registers and extended state ---------------------------------------------------------------
def test_debug_registers_with_a_high_half_or_flags_are_refused():
    vcpu = make_vcpu("6.12")

    assert (22, "debugregs_flags_zero") == refused(vcpu.set_debugregs, DebugRegs(flags=1))
    assert (22, "debugregs_dr6_high_half") == refused(vcpu.set_debugregs, DebugRegs(dr6=1 << 32))
    assert (22, "debugregs_dr7_high_half") == refused(vcpu.set_debugregs, DebugRegs(dr7=1 << 32))

    vcpu.set_debugregs(DebugRegs(db=(1, 2, 3, 4), dr7=0x455))

    assert (1, 2, 3, 4) == vcpu.get_debugregs().db


@pytest.mark.parametrize(
    ("xcr0", "rule"),
    [
        (0, "xcr0_x87"),
        (5, "xcr0_ymm_needs_sse"),
        (1 << 9 | 1, "xcr0_supported"),
        (0x27, "xcr0_avx512_all"),
        (0xE3, "xcr0_avx512_all"),
    ],
)
def test_xcr0_that_the_processor_cannot_hold_is_refused(xcr0, rule):
    assert (22, rule) == refused(make_vcpu("6.12").set_xcrs, xcr0)


def test_xcr0_and_xsave_come_back_as_they_were_set():
    vcpu = make_vcpu("6.12")
    vcpu.set_xcrs(0xE7)
    area = bytes(512) + (3).to_bytes(8, "little") + bytes(3576)
    vcpu.set_xsave(area)

    assert 0xE7 == vcpu.get_xcrs()
    assert area == vcpu.get_xsave()


def test_xsave_of_unknown_features_or_mxcsr_is_refused():
    vcpu = make_vcpu("6.12")
    unknown = bytes(512) + (1 << 40).to_bytes(8, "little") + bytes(3576)
    mxcsr = bytes(24) + b"\0\0\1\0" + bytes(4068)

    assert (22, "xsave_features_supported") == refused(vcpu.set_xsave, unknown)
    assert (22, "xsave_mxcsr") == refused(vcpu.set_xsave, mxcsr)


# CPUID and capabilities ---------------------------------------------------------------------------
def test_cpuid_is_fixed_while_l2_is_active_from_7_0_on():
    for release in ("6.19", "7.0"):
        vcpu = make_vcpu(release)
        vcpu.set_nested_state(base_blob())
        vcpu.set_cpuid2(vcpu.cpuid)
        narrower = vcpu.cpuid.cleared(7, 0, 1, 1 << 2 | 1 << 10)
        if release == "7.0":
            seen = refused(vcpu.set_cpuid2, narrower)

            assert (22, "cpuid_unchanged_in_guest_mode") == seen
        else:
            vcpu.set_cpuid2(narrower)

            assert narrower == vcpu.cpuid


def test_a_linear_address_width_that_kvm_does_not_know_is_refused():
    vcpu = make_vcpu("6.12")
    odd = vcpu.cpuid.cleared(0x8000_0008, 0, 0, 1 << 12)

    assert (22, "cpuid_linear_address_width") == refused(vcpu.set_cpuid2, odd)


@pytest.mark.parametrize(
    ("release", "capability", "errno", "rule"),
    [
        ("4.20", 190, 22, "vcpu_capability_known"),
        ("6.12", 164, 22, "vcpu_capability_known"),
        ("5.12", 199, 22, "vcpu_capability_known"),
    ],
)
def test_capabilities_that_a_vcpu_does_not_know(release, capability, errno, rule):
    assert (errno, rule) == refused(make_vcpu(release).enable_cap, capability)


def test_evmcs_without_config_kvm_hyperv_is_no_capability():
    vcpu = make_vcpu("6.8", hyperv=False)

    assert (22, "vcpu_capability_known") == refused(vcpu.enable_cap, 163)
    assert 0 == vcpu.vm.check_extension(163)
    assert 0x101 == make_vcpu("6.8").enable_cap(163)


@pytest.mark.parametrize(
    ("release", "capability", "value"),
    [("5.13", 200, 0), ("5.14", 200, 1), ("4.19", 164, 0), ("4.20", 164, 1), ("6.0", 218, 1)],
)
def test_capabilities_by_release(release, capability, value):
    assert value == make_vcpu(release).vm.check_extension(capability)


def test_efer_by_msr_keeps_lma():
    vcpu = make_vcpu("6.12")

    assert 1 == vcpu.set_msrs([(0xC000_0080, EFER.LME | EFER.SCE)])
    assert (EFER.LME | EFER.SCE | EFER.LMA,) == vcpu.get_msrs([0xC000_0080])
    assert 0 == vcpu.set_msrs([(0xC000_0080, EFER.SVME)])
    assert (0xC000_0080, "msr_efer_reserved") == vcpu.refused_msr

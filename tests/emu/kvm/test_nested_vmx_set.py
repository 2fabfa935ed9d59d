import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.errors import KvmError
from emu.kvm.nested_vmx.state import EVMCS_MAP_PENDING
from emu.kvm.nested_vmx.words import BLOB_WORDS, WHOLE_SIZE
from emu.releases import RELEASES
from tests.emu.kvm.vmx_support import (
    EVMCS,
    GUEST_MODE,
    NONE_PA,
    RUN_PENDING,
    VMX_RELEASES,
    base_blob,
    get,
    make_vcpu,
    outcome,
    patched,
    put,
)

RECORDED = ("5.10.262", "6.1.192", "6.12.115", "6.18.15", "7.2.13")


def state_of(vcpu):
    """What user space can see of a vCPU: registers, events, nested state and guest memory."""
    buffer = bytearray(WHOLE_SIZE)
    buffer[4:8] = WHOLE_SIZE.to_bytes(4, "little")
    vcpu.get_nested_state_into(buffer)
    events, memory = vcpu.get_vcpu_events(), vcpu.memory.read(0, 0x10000)
    return vcpu.get_control_registers(), events, vcpu.get_mp_state(), bytes(buffer), memory


@pytest.mark.parametrize("release", VMX_RELEASES)
def test_what_get_hands_out_set_takes_back(release):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(base_blob())
    first = vcpu.get_nested_state()
    other = make_vcpu(release)

    assert 0 == other.set_nested_state(first)
    assert first == other.get_nested_state()


def test_l2_in_guest_mode_goes_there_and_back_over_every_pair_of_releases():
    """The base state holds nothing that a release lacks: its 998 bytes survive every journey."""
    vcpus = {release: make_vcpu(release) for release in VMX_RELEASES}
    for one, source in vcpus.items():
        source.set_nested_state(base_blob())
        there = source.get_nested_state()
        for other, destination in vcpus.items():
            if other == one:
                continue

            assert (one, other, 0) == (one, other, destination.set_nested_state(there))
            assert (one, other, 0) == (
                one,
                other,
                source.set_nested_state(destination.get_nested_state()),
            )
            assert there[128 : 128 + 998] == source.get_nested_state()[128 : 128 + 998]


@pytest.mark.parametrize("release", RECORDED)
@given(data=st.data())
def test_a_state_refused_before_kvm_leaves_nested_changes_nothing(release, data):
    """Up to the step `leave_nested` a refusal leaves what was there, whatever the rest holds."""
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(base_blob())
    before = state_of(vcpu)
    blob = base_blob()
    early = {
        "FORMAT": st.integers(1, 0xFFFF),
        "SIZE": st.integers(0, 127),
        "FLAGS": st.sampled_from([0x10, 0x200, 0x8000, RUN_PENDING]),
        "VMXON_PA": st.sampled_from([0x1001, 1 << 60, NONE_PA]),
        "SMM_FLAGS": st.integers(1, 0xFFFF),
        "VMX_HEADER_FLAGS": st.integers(2, 0xFFFF_FFFF),
    }
    name = data.draw(st.sampled_from(sorted(early)))
    put(blob, name, data.draw(early[name]))
    blob[128:] = random.Random(data.draw(st.integers(0, 99))).randbytes(len(blob) - 128)

    with pytest.raises(KvmError):
        vcpu.set_nested_state(blob)

    assert before == state_of(vcpu)


@pytest.mark.parametrize("release", RECORDED)
@given(data=st.data())
def test_a_state_refused_later_leaves_vmx_operation_on_and_l2_left(release, data):
    """From `enter_vmx_operation` on KVM does not go back: VMXON stays, guest mode does not."""
    vcpu = make_vcpu(release)
    blob = base_blob()
    for name in data.draw(st.lists(st.sampled_from(sorted(BLOB_WORDS)), min_size=1, max_size=4)):
        if BLOB_WORDS[name][0] >= 128:
            _, width = BLOB_WORDS[name]
            put(blob, name, data.draw(st.integers(0, (1 << 8 * width) - 1)))
    status, rule = outcome(vcpu, blob)

    assert not rule or rule in RELEASES[release].names("vmx_rules")

    nested = vcpu.operations.nested

    assert nested.vmxon
    assert get(blob, "VMXON_PA") == nested.vmxon_pa
    assert (status == 0) == nested.guest_mode
    assert (status == 2) == (vcpu.entry_refusal is not None)


@pytest.mark.parametrize(
    ("release", "status"),
    [("4.19", 22), ("5.1", 22), ("5.2", 1), ("5.3", 1), ("5.4", 2), ("7.3", 2)],
)
def test_where_l2_cannot_be_entered_the_status_depends_on_the_release(release, status):
    vcpu = make_vcpu(release)

    assert (status, "l2_cr3_width") == outcome(vcpu, patched(GUEST_CR3=1 << 60))


@pytest.mark.parametrize("release", RECORDED)
def test_after_a_failed_entry_cr3_comes_from_vmcs01_which_never_had_it(release):
    vcpu = make_vcpu(release)

    assert 2 == vcpu.set_nested_state(patched(GUEST_CR3=1 << 60))
    assert 0 == vcpu.get_control_registers()[1]


def test_leaving_l2_loads_l1_from_the_host_fields():
    vcpu = make_vcpu("6.12")
    vcpu.set_nested_state(patched(HOST_CR3=0x11000, HOST_RIP=0x2468))
    vcpu.set_msrs([(0x3A, 0)])

    assert 0x11000 == vcpu.get_control_registers()[1]
    assert 0x2468 == vcpu.get_regs().rip
    assert not vcpu.operations.nested.in_vmx_operation


def test_leaving_l2_writes_the_shadow_vmcs12_to_guest_memory():
    vcpu = make_vcpu("6.12")
    vcpu.memory.write(0x5000, (0x91E57ED0).to_bytes(4, "little"))
    blob = patched(
        VMCS_LINK_POINTER=0x5000,
        CPU_BASED_VM_EXEC_CONTROL=get(base_blob(), "CPU_BASED_VM_EXEC_CONTROL") | 1 << 31,
        SECONDARY_VM_EXEC_CONTROL=1 << 14,
        SIZE=8320,
        SHADOW_FIRST_WORD=0x91E57ED0,
    )
    blob[4224 + 900] = 0x5A

    assert 0 == vcpu.set_nested_state(blob)
    assert 8320 == len(vcpu.get_nested_state())

    vcpu.set_msrs([(0x3A, 0)])

    assert bytes(blob[4224 : 4224 + 998]) == vcpu.memory.read(0x5000, 998)


@pytest.mark.parametrize(("release", "pending"), [("5.13", False), ("5.14", True), ("7.3", True)])
def test_evmcs_waits_for_its_mapping_from_5_14_on(release, pending):
    vcpu = make_vcpu(release)
    vcpu.enable_cap(163)

    assert 0 == vcpu.set_nested_state(patched(FLAGS=GUEST_MODE | EVMCS, VMCS12_PA=NONE_PA))
    assert pending == (vcpu.operations.nested.evmcs == EVMCS_MAP_PENDING)


def test_evmcs_without_a_vmcs_needs_config_kvm_hyperv():
    blob = patched(FLAGS=GUEST_MODE | EVMCS, VMCS12_PA=NONE_PA)
    vcpu = make_vcpu("6.8", hyperv=False)
    vcpu.operations.nested.evmcs_enabled = True
    with pytest.raises(KvmError) as refusal:
        vcpu.set_nested_state(blob)

    assert "evmcs_needs_hyperv" == refusal.value.rule


@pytest.mark.parametrize(("release", "left"), [("5.5", False), ("5.6", True)])
def test_enabling_evmcs_takes_controls_away_for_good_before_5_6(release, left):
    vcpu = make_vcpu(release)
    before = vcpu.get_msrs([0x48D, 0x48B, 0x491])
    vcpu.enable_cap(163)

    assert left == (before == vcpu.get_msrs([0x48D, 0x48B, 0x491]))


@pytest.mark.parametrize(
    ("release", "nested", "size"),
    [
        ("4.18", True, 0),
        ("4.19", None, 0),
        ("4.20", None, 8320),
        ("5.7", False, 0),
        ("5.8", False, 8320),
        ("7.1", False, 8320),
        ("7.2", False, 0),
        ("7.2", True, 8320),
    ],
)
def test_capability_says_the_size_where_nested_is_on_or_nobody_asks(release, nested, size):
    assert size == make_vcpu(release, nested=nested).vm.check_extension(157)


def test_nested_off_takes_the_empty_state_only():
    vcpu = make_vcpu("6.12", nested=False)
    empty = patched(FLAGS=0, VMXON_PA=NONE_PA, VMCS12_PA=NONE_PA, SIZE=128)

    assert 0 == vcpu.set_nested_state(empty)
    with pytest.raises(KvmError) as refusal:
        vcpu.set_nested_state(base_blob())

    assert "vmxon_needs_guest_vmx" == refusal.value.rule


def test_get_writes_behind_the_size_where_a_vmcs_outside_guest_mode_has_a_shadow():
    """KVM does not ask for guest mode before it copies the cached shadow vmcs12."""
    vcpu = make_vcpu("6.12")
    blob = patched(
        FLAGS=0,
        VMCS_LINK_POINTER=0x5000,
        CPU_BASED_VM_EXEC_CONTROL=1 << 31,
        SECONDARY_VM_EXEC_CONTROL=1 << 14,
    )
    vcpu.set_nested_state(blob)
    buffer = bytearray(b"\xff" * WHOLE_SIZE)
    buffer[4:8] = WHOLE_SIZE.to_bytes(4, "little")
    vcpu.get_nested_state_into(buffer)

    assert 4224 == int.from_bytes(buffer[4:8], "little")
    assert bytes(4096) == buffer[4224:]


def test_get_with_too_little_room_writes_the_size_alone():
    vcpu = make_vcpu("6.12")
    vcpu.set_nested_state(base_blob())
    buffer = bytearray(WHOLE_SIZE)
    buffer[4:8] = (4223).to_bytes(4, "little")
    with pytest.raises(KvmError) as refusal:
        vcpu.get_nested_state_into(buffer)

    assert (7, "nested_state_fits") == (refusal.value.errno, refusal.value.rule)
    assert bytes(4) + (4224).to_bytes(4, "little") + bytes(WHOLE_SIZE - 8) == bytes(buffer)


@pytest.mark.parametrize(("release", "count"), [("4.20", 998), ("5.0", 4096)])
def test_vmcs12_bytes_that_get_writes(release, count):
    vcpu = make_vcpu(release)
    vcpu.set_nested_state(base_blob())
    buffer = bytearray(b"\xff" * WHOLE_SIZE)
    buffer[4:8] = WHOLE_SIZE.to_bytes(4, "little")
    vcpu.get_nested_state_into(buffer)

    assert b"\xff" * (4096 - count) == buffer[128 + count : 4224]


def test_a_table_limit_of_l2_is_cut_to_16_bits_once_sregs_are_set():
    vcpu = make_vcpu("6.12")
    vcpu.set_nested_state(patched(GUEST_GDTR_LIMIT=0x12345))
    before = get(vcpu.get_nested_state(), "GUEST_GDTR_LIMIT")
    vcpu.set_sregs(vcpu.get_sregs())

    assert (0x12345, 0x2345) == (before, get(vcpu.get_nested_state(), "GUEST_GDTR_LIMIT"))

import pytest

from emu.migration.capture import shipped
from emu.migration.contents import Lost, contents, contents_of_blob, handed_out, lost
from emu.migration.guest import load_registers, load_state, new_vcpu
from emu.migration.matrix import kernel_of
from emu.migration.policy import by_flag
from emu.migration.scenarios import example_kernels
from emu.releases import release

NEWEST = release("7.3")


def held(capture, kernel=NEWEST):
    vcpu = new_vcpu(kernel_of(kernel, capture))
    load_registers(vcpu, capture)
    load_state(vcpu, capture.blob)
    return contents(vcpu, vcpu.get_nested_state())


@pytest.mark.parametrize("capture", shipped().values(), ids=list(shipped()))
def test_a_kernel_holds_what_the_blob_says(capture):
    assert () == lost(contents_of_blob(capture.blob), held(capture))


@pytest.mark.parametrize("name", ["vmx-l2-running", "svm-l2-running"])
def test_every_member_that_a_kernel_carries_is_seen_to_change(name):
    """Each name of `contents` is read from the place in the blob that it stands for."""
    capture = shipped()[name]
    page = next(prefix for prefix in ("vmcs12", "vmcb12") if f"{prefix}." in "".join(held(capture)))
    before = contents_of_blob(capture.blob)
    seen = set()
    for offset in range(128, 4224):
        blob = bytearray(capture.blob)
        blob[offset] ^= 0x01
        seen |= {item.name for item in lost(contents_of_blob(bytes(blob)), before)}

    assert {key for key in before if key.startswith((f"{page}.", "l1."))} <= seen


def test_pieces_that_vmx_state_consists_of():
    found = held(shipped()["vmx-l2-timer"])

    assert (1, 1, 0x1000, 0x2000) == tuple(
        found[name] for name in ("vmxon", "guest_mode", "vmxon_pa", "vmcs12_pa")
    )
    assert (1, 0x1B5A3C7E00) == (found["preemption_timer"], found["preemption_timer_deadline"])
    assert 0x10000 == found["vmcs12.guest_cr3"]


def test_pieces_that_svm_state_consists_of():
    found = held(shipped()["svm-l2-entry-pending"])

    assert (1, 1, 1) == tuple(found[name] for name in ("guest_mode", "gif", "run_pending"))
    assert {"gif": 0, "guest_mode": 0} == held(shipped()["svm-l1-gif-clear"])


def test_outside_vmx_operation_there_is_nothing():
    vcpu = new_vcpu(kernel_of(NEWEST, shipped()["vmx-l1-vmxon"]))

    assert {"vmxon": 0, "guest_mode": 0} == contents(vcpu, vcpu.get_nested_state())
    assert {"vmxon": 0, "guest_mode": 0} == contents_of_blob(vcpu.get_nested_state())


def test_an_old_kernel_has_no_name_for_what_it_does_not_know():
    timer = shipped()["vmx-l2-timer"]

    assert "preemption_timer" in held(timer, release("5.8"))
    assert "preemption_timer" not in held(timer, release("5.7"))
    assert "mtf_pending" not in held(timer, release("5.6"))


def test_growth_has_names_of_its_own():
    kernel = by_flag(next(k for k in example_kernels() if k.name == "6.12-v2-header"))
    vcpu = new_vcpu(kernel_of(kernel, shipped()["vmx-l1-vmxon"]))
    vcpu.grown.hold("notification_deadline", 7)
    found = contents(vcpu, vcpu.get_nested_state())

    assert 7 == found["grown.notification_deadline"]


def test_the_header_is_what_the_next_migration_would_carry():
    found = handed_out(shipped()["vmx-l2-mtf-pending"].blob)

    assert (1, 1, 0) == tuple(found[f"blob.{n}"] for n in ("GUEST_MODE", "MTF_PENDING", "EVMCS"))
    assert 0x1000 == found["blob.vmxon_pa"]


def test_zero_and_no_place_are_the_same_to_a_guest():
    before = {"a": 0, "b": 0, "c": 5, "d": 5, "e": 5}
    after = {"a": 0, "c": 5, "d": 6, "f": 9}

    assert (Lost("d", 5, 6), Lost("e", 5, None)) == lost(before, after)
    assert "d was 0x5, 0x6 instead" == str(Lost("d", 5, 6))
    assert "e was 0x5, no place for it" == str(Lost("e", 5, None))

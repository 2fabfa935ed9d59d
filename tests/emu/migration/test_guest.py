import pytest

from emu.errors import KvmError
from emu.kvm import Kvm
from emu.kvm.cpu_models import host_of
from emu.kvm.host import ModuleParameters
from emu.migration.capture import of_blob, shipped
from emu.migration.guest import capture_of, load_registers, load_state, new_vcpu, refusal_of
from emu.migration.matrix import kernel_of
from emu.releases import release

L2 = shipped()["vmx-l2-running"]


def vcpu_of(capture, name="6.12"):
    return new_vcpu(kernel_of(release(name), capture))


@pytest.mark.parametrize("capture", shipped().values(), ids=list(shipped()))
def test_a_capture_that_is_loaded_is_handed_out_again(capture):
    vcpu = vcpu_of(capture)
    load_registers(vcpu, capture)
    result = load_state(vcpu, capture.blob)
    again = capture_of(vcpu, capture, vcpu.get_nested_state())

    assert 0 == result
    assert capture.blob == again.blob
    assert (capture.cr0, capture.cr3, capture.cr4) == (again.cr0, again.cr3, again.cr4)


def test_registers_come_before_nested_state():
    """VMXON is refused while CR4.VMXE is clear: the order of a restore is part of the interface."""
    capture = shipped()["svm-l2-running"]
    vcpu = vcpu_of(capture)

    with pytest.raises(KvmError) as refused:
        load_state(vcpu, capture.blob)
    assert "without_svme_only_gif" == refused.value.rule

    load_registers(vcpu, capture)

    assert 0 == load_state(vcpu, capture.blob)


def test_smm_comes_before_nested_state_with_smm_flags():
    blob = bytearray(shipped()["vmx-l1-current-vmcs"].blob)
    blob[24] = 2
    capture = of_blob("smm", bytes(blob))
    vcpu = vcpu_of(capture)
    load_registers(vcpu, capture)

    assert vcpu.smm
    assert 0 == load_state(vcpu, capture.blob)
    assert capture_of(vcpu, capture, capture.blob).smm


def test_memory_behind_a_short_blob_is_readable():
    """A VMM hands in a buffer of the kernel's maximum size."""
    capture = shipped()["svm-l1-gif-clear"]
    vcpu = vcpu_of(capture)
    load_registers(vcpu, capture)

    assert 0 == load_state(vcpu, capture.blob[:128])


def test_capabilities_are_enabled_on_the_vcpu():
    assert {"CAP"} == new_vcpu(kernel_of(release("6.12"), L2), ["CAP"]).grown.enabled


def test_registers_that_a_kernel_refuses_are_an_error_of_sregs():
    host = host_of("skylake-x", release("6.12"), ModuleParameters(nested=True))
    with pytest.raises(KvmError) as refused:
        load_registers(
            new_vcpu(Kvm("6.12", host)), L2.from_json({**L2.to_json(), "cr4": 1 << 40 | 0x20}, "")
        )
    rule, errno, detail = refusal_of(refused.value)

    assert ("sregs_cr4_reserved", 22) == (rule, errno)
    assert "CR4 is 0x10000000020: bit 0x10000000000 must be 0" in detail

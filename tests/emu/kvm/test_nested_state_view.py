import pytest

from emu.errors import KvmError
from emu.migration.capture import shipped_capture
from emu.migration.guest import load_registers, load_state, new_vcpu
from emu.migration.matrix import kernel_of
from emu.releases import release


def running(name):
    capture = shipped_capture(name)
    vcpu = new_vcpu(kernel_of(release("6.12"), capture))
    load_registers(vcpu, capture)
    load_state(vcpu, capture.blob)
    return vcpu


def test_vmx_state_is_read_and_written_by_name():
    vcpu = running("vmx-l2-running")
    view = vcpu.nested_state()

    assert (1, 0x1000, 0x8000) == (view.flags, view.vmxon_pa, view.vmcs12.GUEST_RIP)

    view["vmcs12.GUEST_RIP"] = 0x1234

    assert vcpu.set_nested_state(view) == 0
    assert vcpu.nested_state().vmcs12.GUEST_RIP == 0x1234


def test_svm_state_is_read_and_written_by_name():
    vcpu = running("svm-l2-running")
    view = vcpu.nested_state()
    view["vmcb12.asid"] = 0

    with pytest.raises(KvmError) as caught:
        vcpu.set_nested_state(view)

    assert caught.value.rule == "asid_not_zero"

"""A vCPU set up as a VMM does it, and given a capture: where migrations start and end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from emu.errors import KvmError
from emu.kvm import Kvm, Vcpu
from emu.kvm.structs import Segment, Sregs
from emu.migration.capture import Capture

GUEST_MEMORY = 4 << 20
TSS_ADDRESS = 0xFFFB_D000
IA32_FEATURE_CONTROL = 0x3A
EFER_LMA = 1 << 10
VALID_SMM = 8
LONG_MODE_CS = Segment(
    base=0, limit=0xFFFF_FFFF, selector=8, type=11, present=1, s=1, l=1, db=0, g=1
)


def new_vcpu(kvm: Kvm, enabled: Iterable[str] = ()) -> Vcpu:
    """A vCPU with 4 MiB of zeroed memory, an interrupt controller and the supported CPUID.

    `enabled` names capabilities and quirks of grown kernels that the VMM turns on and off.
    """
    vm = kvm.create_vm()
    vm.set_tss_addr(TSS_ADDRESS)
    vm.set_user_memory_region(0, 0, GUEST_MEMORY)
    vm.create_irqchip()
    vcpu = vm.create_vcpu(0)
    vcpu.set_cpuid2(kvm.get_supported_cpuid())
    vcpu.grown.enable(enabled)
    return vcpu


def load_registers(vcpu: Vcpu, capture: Capture) -> None:
    """What a VMM restores before nested state, in the order that KVM needs.

    CPUID comes first (VMX and MAXPHYADDR for every check), IA32_FEATURE_CONTROL before nested state
    (writing 0 leaves VMX operation), SREGS before it (EFER.SVME, CR4.VMXE), SMM before it (the
    header's SMM flags are refused outside SMM).  Raises KvmError.
    """
    if capture.feature_control is not None:
        vcpu.set_msrs([(IA32_FEATURE_CONTROL, capture.feature_control)])
    sregs = dict(vcpu.get_sregs().__dict__)
    sregs.update(cr0=capture.cr0, cr3=capture.cr3, cr4=capture.cr4, efer=capture.efer)
    if capture.efer & EFER_LMA:
        sregs["cs"] = LONG_MODE_CS
    vcpu.set_sregs(Sregs(**sregs))
    if capture.smm:
        vcpu.set_vcpu_events(vcpu.get_vcpu_events().replaced(flags=VALID_SMM, smi_smm=1))


def load_state(vcpu: Vcpu, blob: bytes) -> int:
    """KVM_SET_NESTED_STATE with the caller's memory padded to the kernel's maximum.

    Returns the ioctl's non-negative value; raises KvmError.
    """
    room = max(vcpu.vm.check_extension(157), len(blob))
    return vcpu.set_nested_state(blob.ljust(room, b"\0"))


def capture_of(vcpu: Vcpu, like: Capture, blob: bytes) -> Capture:
    """What a VMM holds after saving `vcpu`: `blob` with the vCPU's registers beside it."""
    cr0, cr3, cr4, efer = vcpu.get_control_registers()
    return replace(like, blob=blob, cr0=cr0, cr3=cr3, cr4=cr4, efer=efer, smm=bool(vcpu.smm))


def refusal_of(error: KvmError) -> tuple[str, int, str]:
    """Rule, errno and detail of a failed ioctl."""
    return error.rule, error.errno, error.detail

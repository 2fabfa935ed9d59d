"""A VM: its memory slots, its interrupt controller, its vCPUs."""

from __future__ import annotations

from errno import EEXIST, EFAULT, EINVAL
from typing import TYPE_CHECKING

from emu.errors import KvmError
from emu.kvm.vcpu import Vcpu
from emu.memory import GuestMemory, MemorySlot

if TYPE_CHECKING:
    from emu.kvm.system import Kvm

PAGE = 4096
KVM_CAP_DISABLE_QUIRKS = 116
KVM_CAP_EXCEPTION_PAYLOAD = 164
KVM_CAP_DISABLE_QUIRKS2 = 213
KVM_CAP_X86_TRIPLE_FAULT_EVENT = 218

# Slots of KVM itself (arch/x86/include/asm/kvm_host.h: KVM_PRIVATE_MEM_SLOTS).
TSS_PRIVATE_SLOT, APIC_ACCESS_SLOT, IDENTITY_MAP_SLOT = -1, -2, -3


class Vm:
    """One virtual machine of a `Kvm`."""

    def __init__(self, kvm: Kvm) -> None:
        self.kvm = kvm
        self.memory = GuestMemory()
        self.vcpus: list[Vcpu] = []
        self.irqchip_in_kernel = False
        self.disabled_quirks = 0
        self.exception_payload_enabled = False
        self.triple_fault_event = False

    def check_extension(self, capability: int) -> int:
        """KVM_CHECK_EXTENSION on the VM."""
        return self.kvm.check_extension(capability)

    def set_tss_addr(self, gpa: int) -> None:
        """KVM_SET_TSS_ADDR: three pages of KVM's own at `gpa`, on Intel.

        Source: arch/x86/kvm/vmx/vmx.c: vmx_set_tss_addr.
        """
        if gpa > 0xFFFF_FFFF - 3 * PAGE:
            raise KvmError("KVM_SET_TSS_ADDR", EINVAL, "tss_addr_below_4_gib", hex(gpa))
        if self.kvm.host.vendor == "intel":
            self.add_private_slot(TSS_PRIVATE_SLOT, gpa, 3 * PAGE)

    def add_private_slot(self, number: int, gpa: int, size: int) -> None:
        """A memory slot of KVM itself; a second one of a number is ignored, as KVM ignores it."""
        if all(slot.number != number for slot in self.memory.slots):
            self.memory.add(MemorySlot(number, gpa, size, private=True))

    def set_user_memory_region(self, slot: int, gpa: int, size: int) -> MemorySlot | None:
        """KVM_SET_USER_MEMORY_REGION: `size` zeroed bytes at `gpa`; size 0 deletes the slot.

        Raises KvmError as virt/kvm/kvm_main.c: __kvm_set_memory_region does.
        """
        ioctl = "KVM_SET_USER_MEMORY_REGION"
        if gpa % PAGE or size % PAGE:
            raise KvmError(ioctl, EINVAL, "memory_region_aligned", f"{size:#x} bytes at {gpa:#x}")
        old = next((s for s in self.memory.slots if s.number == slot and not s.private), None)
        if size == 0:
            if old is None:
                raise KvmError(ioctl, EINVAL, "memory_region_exists", f"slot {slot}")
            self.memory.remove(old)
            return None
        if old is not None and old.size != size:
            raise KvmError(ioctl, EINVAL, "memory_region_size_fixed", f"slot {slot}")
        if self.memory.overlaps(gpa, size, but=old):
            raise KvmError(ioctl, EEXIST, "memory_region_overlap", f"{size:#x} bytes at {gpa:#x}")
        if old is not None:
            old.gpa = gpa
            return old
        made = MemorySlot(slot, gpa, size)
        self.memory.add(made)
        return made

    def create_irqchip(self) -> None:
        """KVM_CREATE_IRQCHIP."""
        if self.irqchip_in_kernel:
            raise KvmError("KVM_CREATE_IRQCHIP", EEXIST, "irqchip_once")
        if self.vcpus:
            raise KvmError("KVM_CREATE_IRQCHIP", EINVAL, "irqchip_before_vcpus")
        self.irqchip_in_kernel = True

    def create_vcpu(self, number: int = 0) -> Vcpu:
        """KVM_CREATE_VCPU."""
        if any(vcpu.number == number for vcpu in self.vcpus):
            raise KvmError("KVM_CREATE_VCPU", EEXIST, "vcpu_id_unique", str(number))
        vcpu = Vcpu(self, number)
        self.vcpus.append(vcpu)
        return vcpu

    def enable_cap(self, capability: int, argument: int = 0) -> None:
        """KVM_ENABLE_CAP on the VM, for the capabilities that bear on nested state.

        Source: arch/x86/kvm/x86.c: kvm_vm_ioctl_enable_cap.
        """
        release = self.kvm.release
        if capability == KVM_CAP_EXCEPTION_PAYLOAD and release.has(
            "capabilities", "KVM_CAP_EXCEPTION_PAYLOAD"
        ):
            self.exception_payload_enabled = bool(argument)
        elif capability == KVM_CAP_X86_TRIPLE_FAULT_EVENT and release.has(
            "capabilities", "KVM_CAP_X86_TRIPLE_FAULT_EVENT"
        ):
            self.triple_fault_event = bool(argument)
        elif capability == KVM_CAP_DISABLE_QUIRKS:
            if release.does("quirks_accumulate"):
                self.disabled_quirks |= argument
            else:
                self.disabled_quirks = argument
        elif capability == KVM_CAP_DISABLE_QUIRKS2 and release.has(
            "capabilities", "KVM_CAP_DISABLE_QUIRKS2"
        ):
            self.disabled_quirks |= argument
        else:
            raise KvmError("KVM_ENABLE_CAP", EINVAL, "vm_capability_known", str(capability))

    def read_memory(self, gpa: int, size: int) -> bytes:
        """Guest memory as user space sees it through its mapping."""
        data = self.memory.read(gpa, size)
        if data is None:
            raise KvmError("memory", EFAULT, "memory_backed", f"{size:#x} bytes at {gpa:#x}")
        return data

    def write_memory(self, gpa: int, data: bytes) -> None:
        """Write guest memory as user space does through its mapping."""
        if not self.memory.write(gpa, data):
            raise KvmError("memory", EFAULT, "memory_backed", f"{len(data):#x} bytes at {gpa:#x}")

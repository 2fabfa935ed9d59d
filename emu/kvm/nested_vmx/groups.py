"""The groups of fields that KVM copies from vmcs12 to vmcs02 and back."""

from __future__ import annotations

from typing import Final

from emu.kvm.nested_vmx.vmcs_row import SEGMENT_NAMES, FieldGroup

SELECTORS: Final = tuple(f"GUEST_{s}_SELECTOR" for s in SEGMENT_NAMES)
LIMITS: Final = tuple(f"GUEST_{s}_LIMIT" for s in (*SEGMENT_NAMES, "GDTR", "IDTR"))
RIGHTS: Final = tuple(f"GUEST_{s}_AR_BYTES" for s in SEGMENT_NAMES)
BASES: Final = tuple(f"GUEST_{s}_BASE" for s in (*SEGMENT_NAMES, "GDTR", "IDTR"))
SYSENTER: Final = ("GUEST_SYSENTER_CS", "GUEST_SYSENTER_ESP", "GUEST_SYSENTER_EIP")
PENDING_DEBUG: Final = "GUEST_PENDING_DBG_EXCEPTIONS"

# arch/x86/kvm/vmx/nested.c: prepare_vmcs02_rare
TO_VMCS02_RARE: Final = FieldGroup((*SELECTORS, *LIMITS, *RIGHTS, *BASES, *SYSENTER, PENDING_DEBUG))
PDPTRS: Final = FieldGroup(f"GUEST_PDPTR{i}" for i in range(4))
EOI_EXIT_BITMAPS: Final = FieldGroup(f"EOI_EXIT_BITMAP{i}" for i in range(4))
PAGE_FAULT_CODES: Final = FieldGroup(("PAGE_FAULT_ERROR_CODE_MASK", "PAGE_FAULT_ERROR_CODE_MATCH"))
GUEST_CET: Final = FieldGroup(("GUEST_S_CET", "GUEST_SSP", "GUEST_INTR_SSP_TABLE"))

# arch/x86/kvm/vmx/nested.c: prepare_vmcs02_early, with a VM entry pending
INJECTION: Final = FieldGroup(
    (
        "VM_ENTRY_INTR_INFO_FIELD",
        "VM_ENTRY_EXCEPTION_ERROR_CODE",
        "VM_ENTRY_INSTRUCTION_LEN",
        "GUEST_INTERRUPTIBILITY_INFO",
    )
)

# arch/x86/kvm/vmx/nested.c: sync_vmcs02_to_vmcs12_rare
FROM_VMCS02_RARE: Final = FieldGroup(
    (
        *SELECTORS,
        *LIMITS,
        *(name for name in RIGHTS if name not in ("GUEST_CS_AR_BYTES", "GUEST_SS_AR_BYTES")),
        *BASES,
        PENDING_DEBUG,
    )
)

# arch/x86/kvm/vmx/nested.c: sync_vmcs02_to_vmcs12
FROM_VMCS02: Final = FieldGroup(
    (
        "GUEST_RFLAGS",
        "GUEST_CS_AR_BYTES",
        "GUEST_SS_AR_BYTES",
        "GUEST_INTERRUPTIBILITY_INFO",
        "GUEST_CR3",
        "GUEST_LINEAR_ADDRESS",
    )
)

# arch/x86/kvm/vmx/vmcs_shadow_fields.h: SHADOW_FIELD_RW
SHADOWED: Final = FieldGroup(
    (
        "GUEST_INTR_STATUS",
        "GUEST_PML_INDEX",
        "HOST_FS_SELECTOR",
        "HOST_GS_SELECTOR",
        "CPU_BASED_VM_EXEC_CONTROL",
        "PIN_BASED_VM_EXEC_CONTROL",
        "EXCEPTION_BITMAP",
        "VM_ENTRY_EXCEPTION_ERROR_CODE",
        "VM_ENTRY_INTR_INFO_FIELD",
        "VM_ENTRY_INSTRUCTION_LEN",
        "TPR_THRESHOLD",
        "GUEST_INTERRUPTIBILITY_INFO",
        "VMX_PREEMPTION_TIMER_VALUE",
        "GUEST_RIP",
        "GUEST_RSP",
        "GUEST_CR0",
        "GUEST_CR3",
        "GUEST_CR4",
        "GUEST_RFLAGS",
        "CR0_GUEST_HOST_MASK",
        "CR0_READ_SHADOW",
        "CR4_READ_SHADOW",
        "HOST_FS_BASE",
        "HOST_GS_BASE",
    )
)

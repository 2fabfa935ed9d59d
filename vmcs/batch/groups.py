"""Field groups: which fields KVM moves as they are between the control structures of L1 and L2.

A group is what one kernel function copies on one condition, without changing a bit. What KVM works
out from two structures (controls, CR0 and CR4, the TSC offset, intercepts) is in the groups whose
name ends in MERGED: those fields are to be computed, not copied. A user's group is one more
`FieldGroup`; batches take any sequence of names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vmcs.schema import Cited, check_cited, check_unique, require
from vmcs.svm.vmcb import LBR_MEMBERS, SHADOW_STACK_MEMBERS, VMLOAD_LOADS, expand
from vmcs.vmx.fields import BY_NAME

NESTED_VMX: Final = "arch/x86/kvm/vmx/nested.c"
NESTED_SVM: Final = "arch/x86/kvm/svm/nested.c"

SEGMENTS: Final = ("ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR")
TABLES: Final = ("GDTR", "IDTR")


@dataclass(frozen=True)
class FieldGroup(Cited):
    """Fields that `copies` moves together, `when` a condition holds (always where it is empty).

    Iterating gives the names, so that a group stands wherever field names do.
    """

    name: str
    copies: str
    fields: tuple[str, ...]
    when: str = ""

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)


def _guest(form: str, *registers: str) -> tuple[str, ...]:
    return tuple(form.format(register) for register in registers)


SEGMENT_FIELDS: Final = (
    *_guest("GUEST_{}_SELECTOR", *SEGMENTS),
    *_guest("GUEST_{}_LIMIT", *SEGMENTS, *TABLES),
    *_guest("GUEST_{}_AR_BYTES", *SEGMENTS),
    *_guest("GUEST_{}_BASE", *SEGMENTS, *TABLES),
)
PDPTRS: Final = ("GUEST_PDPTR0", "GUEST_PDPTR1", "GUEST_PDPTR2", "GUEST_PDPTR3")
EXIT_BITMAPS: Final = tuple(f"EOI_EXIT_BITMAP{i}" for i in range(4))
CET: Final = ("GUEST_S_CET", "GUEST_SSP", "GUEST_INTR_SSP_TABLE")
EAGER_ACCESS_RIGHTS: Final = ("GUEST_CS_AR_BYTES", "GUEST_SS_AR_BYTES")
EVENT: Final = ("VM_ENTRY_INTR_INFO_FIELD", "VM_ENTRY_EXCEPTION_ERROR_CODE")
PAGE_FAULT_FILTER: Final = ("PAGE_FAULT_ERROR_CODE_MASK", "PAGE_FAULT_ERROR_CODE_MATCH")
SYSENTER: Final = ("GUEST_SYSENTER_CS", "GUEST_SYSENTER_ESP", "GUEST_SYSENTER_EIP")
STACK: Final = ("GUEST_RSP", "GUEST_RIP", "GUEST_RFLAGS")

TO_VMCS02: Final = "vmcs12 to vmcs02"
TO_VMCS12: Final = "vmcs02 to vmcs12"
EARLY: Final = f"{NESTED_VMX}: prepare_vmcs02_early, 6.12"
RARE: Final = f"{NESTED_VMX}: prepare_vmcs02_rare, 6.12"
FULL: Final = f"{NESTED_VMX}: prepare_vmcs02, 6.12"
SYNC: Final = f"{NESTED_VMX}: sync_vmcs02_to_vmcs12, 6.12"
SYNC_RARE: Final = f"{NESTED_VMX}: sync_vmcs02_to_vmcs12_rare, 6.12"
EXIT: Final = f"{NESTED_VMX}: prepare_vmcs12, 6.12"

# fmt: off
VMX_GROUPS: Final = (
    # L1's VM entry
    FieldGroup("EARLY_TPR", TO_VMCS02, ("TPR_THRESHOLD",), "TPR shadow", seen=EARLY),
    FieldGroup("EARLY_VID", TO_VMCS02, ("GUEST_INTR_STATUS",), "virtual-interrupt delivery",
               seen=EARLY),
    FieldGroup("EARLY_EVENT", TO_VMCS02,
               (*EVENT, "VM_ENTRY_INSTRUCTION_LEN", "GUEST_INTERRUPTIBILITY_INFO"),
               "VM entry is pending", seen=EARLY),
    FieldGroup("EARLY_MERGED", "vmcs01 and vmcs12 to vmcs02",
               ("PIN_BASED_VM_EXEC_CONTROL", "CPU_BASED_VM_EXEC_CONTROL",
                "SECONDARY_VM_EXEC_CONTROL", "VM_ENTRY_CONTROLS", "VM_EXIT_CONTROLS",
                "ENCLS_EXITING_BITMAP"), seen=EARLY),
    FieldGroup("RARE_SEGMENTS", TO_VMCS02, SEGMENT_FIELDS, "vmcs12 was written", seen=RARE),
    FieldGroup("RARE_SYSTEM", TO_VMCS02, (*SYSENTER, "GUEST_PENDING_DBG_EXCEPTIONS"),
               "vmcs12 was written", seen=RARE),
    FieldGroup("RARE_PDPTRS", TO_VMCS02, PDPTRS, "vmcs12 was written, L0 uses EPT", seen=RARE),
    FieldGroup("RARE_BNDCFGS", TO_VMCS02, ("GUEST_BNDCFGS",),
               "vmcs12 was written, VM entry is pending and loads BNDCFGS", seen=RARE),
    FieldGroup("RARE_XSS", TO_VMCS02, ("XSS_EXIT_BITMAP",),
               "vmcs12 was written and enables XSAVES", seen=RARE),
    FieldGroup("RARE_PAGE_FAULTS", TO_VMCS02, PAGE_FAULT_FILTER,
               "vmcs12 was written, L0 does not intercept page faults", seen=RARE),
    FieldGroup("RARE_EOI", TO_VMCS02, EXIT_BITMAPS, "vmcs12 was written, L0 has APICv", seen=RARE),
    FieldGroup("RARE_CET", TO_VMCS02, CET, "vmcs12 was written, VM entry loads CET state",
               seen=f"{NESTED_VMX}: prepare_vmcs02_rare, 7.3"),
    FieldGroup("FULL_STATE", TO_VMCS02, STACK, seen=FULL),
    FieldGroup("FULL_DEBUG", TO_VMCS02, ("GUEST_DR7", "GUEST_IA32_DEBUGCTL"),
               "VM entry is pending and loads debug controls",
               seen=f"{NESTED_VMX}: prepare_vmcs02, 5.10"),
    FieldGroup("FULL_PAT", TO_VMCS02, ("GUEST_IA32_PAT",), "VM entry is pending and loads IA32_PAT",
               seen=FULL),
    FieldGroup("FULL_CR3", TO_VMCS02, ("GUEST_CR3",), "L0 uses EPT", seen=FULL),
    FieldGroup("FULL_PDPTRS", TO_VMCS02, PDPTRS, "vmcs12 enables EPT, L2 uses PAE paging",
               seen=FULL),
    FieldGroup("FULL_MERGED", "vmcs01 and vmcs12 to vmcs02",
               ("EXCEPTION_BITMAP", "CR0_GUEST_HOST_MASK", "CR4_GUEST_HOST_MASK", "CR0_READ_SHADOW",
                "CR4_READ_SHADOW", "GUEST_CR0", "GUEST_CR4", "GUEST_IA32_EFER", "TSC_OFFSET",
                "TSC_MULTIPLIER"), seen=FULL),
    # VM exit to L1
    FieldGroup("SYNC_STATE", TO_VMCS12,
               (*STACK, *EAGER_ACCESS_RIGHTS, "GUEST_INTERRUPTIBILITY_INFO",
                "GUEST_LINEAR_ADDRESS"), seen=SYNC),
    FieldGroup("SYNC_CR3", TO_VMCS12, ("GUEST_CR3",), "L0 uses EPT", seen=SYNC),
    FieldGroup("SYNC_PDPTRS", TO_VMCS12, PDPTRS, "vmcs12 enables EPT, L2 uses PAE paging",
               seen=SYNC),
    FieldGroup("SYNC_VID", TO_VMCS12, ("GUEST_INTR_STATUS",), "virtual-interrupt delivery",
               seen=SYNC),
    FieldGroup("SYNC_DEBUG", TO_VMCS12, ("GUEST_DR7",), "VM exit saves debug controls", seen=SYNC),
    FieldGroup("SYNC_EFER", TO_VMCS12, ("GUEST_IA32_EFER",), "VM exit saves IA32_EFER", seen=SYNC),
    FieldGroup("SYNC_CET", TO_VMCS12, CET, seen=f"{NESTED_VMX}: sync_vmcs02_to_vmcs12, 7.3"),
    FieldGroup("SYNC_MERGED", "vmcs02 and the vCPU to vmcs12",
               ("GUEST_CR0", "GUEST_CR4", "GUEST_ACTIVITY_STATE", "VM_ENTRY_CONTROLS",
                "VMX_PREEMPTION_TIMER_VALUE"), seen=SYNC),
    FieldGroup("SYNC_RARE", TO_VMCS12,
               (*(name for name in SEGMENT_FIELDS if name not in EAGER_ACCESS_RIGHTS),
                "GUEST_PENDING_DBG_EXCEPTIONS"), "vmcs12 is read", seen=SYNC_RARE),
    FieldGroup("SYNC_RARE_BNDCFGS", TO_VMCS12, ("GUEST_BNDCFGS",), "vmcs12 is read, L0 has MPX",
               seen=f"{NESTED_VMX}: sync_vmcs02_to_vmcs12_rare, 5.10"),
    FieldGroup("EXIT_INSTRUCTION", TO_VMCS12, ("VM_EXIT_INSTRUCTION_LEN", "VMX_INSTRUCTION_INFO"),
               "VM entry had succeeded", seen=EXIT),
)

TO_VMCB02: Final = "vmcb12 to vmcb02"
TO_VMCB12: Final = "vmcb02 to vmcb12"
PREPARE_SAVE: Final = f"{NESTED_SVM}: nested_vmcb02_prepare_save, 6.12"
PREPARE_CONTROL: Final = f"{NESTED_SVM}: nested_vmcb02_prepare_control, 6.12"
VMEXIT: Final = f"{NESTED_SVM}: nested_svm_vmexit, 6.12"
CACHE: Final = f"{NESTED_SVM}: __nested_copy_vmcb_control_to_cache, 6.12"
CODE_SEGMENTS: Final = expand(("es", "cs", "ss", "ds"))
INTERCEPTS: Final = tuple(f"intercepts.{i}" for i in range(6))
EXIT_INFO: Final = ("exit_code", "exit_info_1", "exit_info_2")
INJECTION: Final = ("event_inj", "event_inj_err")
PAUSE: Final = ("pause_filter_count", "pause_filter_thresh")

SVM_GROUPS: Final = (
    FieldGroup("CONTROL_CACHE", "vmcb12 to KVM's copy of its control area",
               (*INTERCEPTS, *PAUSE, "tsc_offset", "asid", "tlb_ctl", "int_ctl", "int_vector",
                "int_state", *EXIT_INFO, "exit_int_info", "exit_int_info_err", "misc_ctl",
                *INJECTION, "nested_cr3", "misc_ctl2", "next_rip"), seen=CACHE),
    FieldGroup("CONTROL_CACHE_MERGED", "vmcb12 to KVM's copy, page offsets cut off",
               ("iopm_base_pa", "msrpm_base_pa"), seen=CACHE),
    FieldGroup("SAVE_CACHE", "vmcb12 to KVM's copy of its save area",
               (*expand(("cs",)), "efer", "cr0", "cr3", "cr4", "dr6", "dr7"),
               seen=f"{NESTED_SVM}: __nested_copy_vmcb_save_to_cache, 6.12"),
    # VMRUN of L1
    FieldGroup("PREPARE_CONTROL", TO_VMCB02, ("int_vector", "int_state", *INJECTION),
               seen=PREPARE_CONTROL),
    FieldGroup("PREPARE_NEXT_RIP", TO_VMCB02, ("next_rip",), "L1 has NRIPS", seen=PREPARE_CONTROL),
    FieldGroup("PREPARE_PAUSE", TO_VMCB02, PAUSE, "L0 does not intercept PAUSE",
               seen=PREPARE_CONTROL),
    FieldGroup("PREPARE_HOST", "vmcb01 to vmcb02", ("misc_ctl", "iopm_base_pa", "msrpm_base_pa"),
               seen=PREPARE_CONTROL),
    FieldGroup("PREPARE_CONTROL_MERGED", "vmcb01 and vmcb12 to vmcb02",
               (*INTERCEPTS, "int_ctl", "tsc_offset", "misc_ctl2", "nested_cr3", "asid",
                "tlb_ctl"), seen=PREPARE_CONTROL),
    FieldGroup("PREPARE_SEGMENTS", TO_VMCB02, (*CODE_SEGMENTS, "cpl"), "clean bit SEG is 0",
               seen=PREPARE_SAVE),
    FieldGroup("PREPARE_TABLES", TO_VMCB02, expand(("gdtr", "idtr")), "clean bit DT is 0",
               seen=PREPARE_SAVE),
    FieldGroup("PREPARE_STATE", TO_VMCB02, ("rax", "rsp", "rip"), seen=PREPARE_SAVE),
    FieldGroup("PREPARE_LBR", TO_VMCB02, LBR_MEMBERS, "vmcb12 enables LBR virtualization",
               seen=PREPARE_SAVE),
    FieldGroup("PREPARE_CET", TO_VMCB02, SHADOW_STACK_MEMBERS, "clean bit CET is 0",
               seen=f"{NESTED_SVM}: nested_vmcb02_prepare_save, 7.3"),
    FieldGroup("PREPARE_SAVE_MERGED", "vmcb12 and L0 to vmcb02",
               ("rflags", "efer", "cr0", "cr3", "cr4", "dr7", "g_pat"), seen=PREPARE_SAVE),
    # #VMEXIT to L1
    FieldGroup("VMEXIT_STATE", TO_VMCB12,
               (*CODE_SEGMENTS, *expand(("gdtr", "idtr")), "cpl", "dr7"), seen=VMEXIT),
    FieldGroup("VMEXIT_VCPU", "the vCPU to vmcb12",
               ("efer", "cr0", "cr2", "cr3", "cr4", "rflags", "rip", "rsp", "rax", "dr6"),
               seen=VMEXIT),
    FieldGroup("VMEXIT_CONTROL", TO_VMCB12, ("int_state", *EXIT_INFO), seen=VMEXIT),
    FieldGroup("VMEXIT_NEXT_RIP", TO_VMCB12, ("next_rip",), "L1 has NRIPS", seen=VMEXIT),
    FieldGroup("VMEXIT_LBR", TO_VMCB12, LBR_MEMBERS, "vmcb12 enables LBR virtualization",
               seen=VMEXIT),
    FieldGroup("VMEXIT_CET", TO_VMCB12, SHADOW_STACK_MEMBERS, "L1 has shadow stacks",
               seen=f"{NESTED_SVM}: nested_svm_vmexit_update_vmcb12, 7.3"),
    # VMLOAD and VMSAVE of L1, and the save area that the nested state hands out
    FieldGroup("VMLOAD", "vmcb12 to vmcb01, and back for VMSAVE", VMLOAD_LOADS,
               seen=f"{NESTED_SVM}: svm_copy_vmloadsave_state, 6.12"),
    FieldGroup("VMRUN_STATE", "nested state to vmcb01",
               (*CODE_SEGMENTS, *expand(("gdtr", "idtr")), "efer", "cr0", "cr3", "cr4", "rax",
                "rsp", "rip"), seen=f"{NESTED_SVM}: svm_copy_vmrun_state, 6.12"),
    FieldGroup("VMRUN_LBR", "nested state to vmcb01", LBR_MEMBERS, "L0 has LBR virtualization",
               seen=f"{NESTED_SVM}: svm_copy_vmrun_state, 7.3"),
    FieldGroup("VMRUN_CET", "nested state to vmcb01", SHADOW_STACK_MEMBERS, "L1 has shadow stacks",
               seen=f"{NESTED_SVM}: svm_copy_vmrun_state, 7.3"),
)
# fmt: on

GROUPS: Final = {group.name: group for group in (*VMX_GROUPS, *SVM_GROUPS)}


def group_named(name: str) -> FieldGroup:
    """The group called `name`; raises KeyError that names it."""
    return GROUPS[name]


def _check() -> None:
    groups = (*VMX_GROUPS, *SVM_GROUPS)
    check_cited(groups, "GROUPS")
    check_unique([group.name for group in groups], "GROUPS")
    for group in groups:
        check_unique(group.fields, group.name)
    for group in VMX_GROUPS:
        for name in group:
            require(name in BY_NAME, f"{group.name}: {name} is no field of the VMCS")


_check()

"""Rules of ioctls that are asked in code, not walked as rows: what each name stands for.

`KvmError` and `MsrRefused` carry these names.  A refused MSR has no errno of its own: KVM_SET_MSRS
and KVM_GET_MSRS return how many came before it.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class IoctlRule(NamedTuple):
    """A rule: the ioctl that asks it, the errno that it fails with, what it asks, where."""

    name: str
    ioctl: str
    errno: str
    asks: str
    seen: str


_X86 = "arch/x86/kvm/x86.c"
_ARCH_IOCTL = f"{_X86}: kvm_arch_vcpu_ioctl"
_EVENTS = f"{_X86}: kvm_vcpu_ioctl_x86_set_vcpu_events"
_DEBUG = f"{_X86}: kvm_vcpu_ioctl_x86_set_debugregs"
_XCR = f"{_X86}: __kvm_set_xcr"
_MP = f"{_X86}: kvm_arch_vcpu_ioctl_set_mpstate"
_CAP = f"{_X86}: kvm_vcpu_ioctl_enable_cap"
_MSR = f"{_X86}: kvm_set_msr_common"
_MEMORY = "virt/kvm/kvm_main.c: __kvm_set_memory_region"
_VMX_MSR = "arch/x86/kvm/vmx/nested.c: vmx_set_vmx_msr"
_VMX_BASIC = "arch/x86/kvm/vmx/nested.c: vmx_restore_vmx_basic"
_VMX_MISC = "arch/x86/kvm/vmx/nested.c: vmx_restore_vmx_misc"
_VMX = "arch/x86/kvm/vmx/vmx.c: vmx_set_msr"
_SVM = "arch/x86/kvm/svm/svm.c: svm_set_msr"
SET_MSRS, SET_STATE = "KVM_SET_MSRS", "KVM_SET_NESTED_STATE"

# fmt: off
IOCTL_RULES: Final = (
    IoctlRule("nested_state_offered", "KVM_GET/SET_NESTED_STATE", "EINVAL", "the kernel has the ioctl, and nested virtualization is on", _ARCH_IOCTL),
    IoctlRule("nested_state_fits", "KVM_GET_NESTED_STATE", "E2BIG", "the state fits the size that the caller gives", _ARCH_IOCTL),
    IoctlRule("entry_to_l2", SET_STATE, "EINVAL", "the ioctl returns 0: L2 was entered", "arch/x86/kvm/vmx/nested.c: vmx_set_nested_state"),
    IoctlRule("grown_page_within_size", SET_STATE, "EINVAL", "the size reaches the end of a page that a flag announces", "the kernel file that adds the page"),
    IoctlRule("cpuid_unchanged_in_guest_mode", "KVM_SET_CPUID2", "EINVAL", "the table is the one that is set while the vCPU runs L2", "arch/x86/kvm/cpuid.c: kvm_set_cpuid"),
    IoctlRule("cpuid_linear_address_width", "KVM_SET_CPUID2", "EINVAL", "the linear-address width is 48 or 57, or not given", "arch/x86/kvm/cpuid.c: kvm_check_cpuid"),
    IoctlRule("sregs2_known", "KVM_GET/SET_SREGS2", "ENOTTY", "the kernel has KVM_CAP_SREGS2", _ARCH_IOCTL),
    IoctlRule("sregs2_flags_known", "KVM_SET_SREGS2", "EINVAL", "no flag but KVM_SREGS2_FLAGS_PDPTRS_VALID", f"{_X86}: __set_sregs2"),
    IoctlRule("sregs2_pdptrs_only_with_pae", "KVM_SET_SREGS2", "EINVAL", "PDPTRs come with PAE paging only", f"{_X86}: __set_sregs2"),
    IoctlRule("mp_state_needs_irqchip", "KVM_SET_MP_STATE", "EINVAL", "without an in-kernel irqchip the state is RUNNABLE", _MP),
    IoctlRule("mp_state_known", "KVM_SET_MP_STATE", "EINVAL", "the state is one that this kernel knows", _MP),
    IoctlRule("mp_state_while_init_latched", "KVM_SET_MP_STATE", "EINVAL", "no INIT_RECEIVED or SIPI_RECEIVED while INIT is latched", _MP),
    IoctlRule("debugregs_flags_zero", "KVM_SET_DEBUGREGS", "EINVAL", "flags are 0", _DEBUG),
    IoctlRule("debugregs_dr6_high_half", "KVM_SET_DEBUGREGS", "EINVAL", "DR6 bits 63:32 are 0", _DEBUG),
    IoctlRule("debugregs_dr7_high_half", "KVM_SET_DEBUGREGS", "EINVAL", "DR7 bits 63:32 are 0", _DEBUG),
    IoctlRule("xcr0_x87", "KVM_SET_XCRS", "EINVAL", "XCR0 has x87", _XCR),
    IoctlRule("xcr0_ymm_needs_sse", "KVM_SET_XCRS", "EINVAL", "XCR0 has SSE where it has YMM", _XCR),
    IoctlRule("xcr0_supported", "KVM_SET_XCRS", "EINVAL", "XCR0 has only components that the guest's CPUID has", _XCR),
    IoctlRule("xcr0_mpx_both", "KVM_SET_XCRS", "EINVAL", "XCR0 has both MPX components or neither", _XCR),
    IoctlRule("xcr0_avx512_all", "KVM_SET_XCRS", "EINVAL", "XCR0 has YMM and all AVX-512 components, or none of these", _XCR),
    IoctlRule("xsave_features_supported", "KVM_SET_XSAVE", "EINVAL", "XSTATE_BV has only components that the guest may use", f"{_X86}: kvm_vcpu_ioctl_x86_set_xsave"),
    IoctlRule("xsave_mxcsr", "KVM_SET_XSAVE", "EINVAL", "MXCSR has no reserved bit", f"{_X86}: kvm_vcpu_ioctl_x86_set_xsave"),
    IoctlRule("evmcs_known_to_vendor", "KVM_ENABLE_CAP", "ENOTTY", "the vendor has enlightened VMCS", _CAP),
    IoctlRule("synic_needs_irqchip", "KVM_ENABLE_CAP", "EINVAL", "SynIC needs the in-kernel irqchip", _CAP),
    IoctlRule("vcpu_capability_known", "KVM_ENABLE_CAP", "EINVAL", "the capability can be enabled on a vCPU of this kernel", _CAP),
    IoctlRule("vm_capability_known", "KVM_ENABLE_CAP", "EINVAL", "the capability can be enabled on a VM of this kernel", f"{_X86}: kvm_vm_ioctl_enable_cap"),
    IoctlRule("tss_addr_below_4_gib", "KVM_SET_TSS_ADDR", "EINVAL", "three pages at the address end below 4 GiB", f"{_X86}: kvm_vm_ioctl_set_tss_addr"),
    IoctlRule("memory_region_aligned", "KVM_SET_USER_MEMORY_REGION", "EINVAL", "address and size are multiples of 4096", _MEMORY),
    IoctlRule("memory_region_exists", "KVM_SET_USER_MEMORY_REGION", "EINVAL", "a slot that is deleted exists", _MEMORY),
    IoctlRule("memory_region_size_fixed", "KVM_SET_USER_MEMORY_REGION", "EINVAL", "a slot keeps its size", _MEMORY),
    IoctlRule("memory_region_overlap", "KVM_SET_USER_MEMORY_REGION", "EEXIST", "the slot overlaps no other", _MEMORY),
    IoctlRule("memory_backed", "memory", "EFAULT", "the guest-physical range has memory", "virt/kvm/kvm_main.c: kvm_read_guest"),
    IoctlRule("irqchip_once", "KVM_CREATE_IRQCHIP", "EEXIST", "there is no interrupt controller yet", f"{_X86}: kvm_arch_vm_ioctl"),
    IoctlRule("irqchip_before_vcpus", "KVM_CREATE_IRQCHIP", "EINVAL", "there is no vCPU yet", f"{_X86}: kvm_arch_vm_ioctl"),
    IoctlRule("vcpu_id_unique", "KVM_CREATE_VCPU", "EEXIST", "no vCPU has the number", "virt/kvm/kvm_main.c: kvm_vm_ioctl_create_vcpu"),
    IoctlRule("events_flags_known", "KVM_SET_VCPU_EVENTS", "EINVAL", "the flags are ones that this kernel knows", _EVENTS),
    IoctlRule("events_payload_enabled", "KVM_SET_VCPU_EVENTS", "EINVAL", "KVM_CAP_EXCEPTION_PAYLOAD is enabled where a payload is given", _EVENTS),
    IoctlRule("events_exception_vector", "KVM_SET_VCPU_EVENTS", "EINVAL", "an exception has a vector up to 31 that is not NMI's", _EVENTS),
    IoctlRule("events_smm_while_waiting_for_sipi", "KVM_SET_VCPU_EVENTS", "EINVAL", "no SMM or pending SMI while INIT is latched", _EVENTS),
    IoctlRule("events_triple_fault_enabled", "KVM_SET_VCPU_EVENTS", "EINVAL", "KVM_CAP_X86_TRIPLE_FAULT_EVENT is enabled where a triple fault is given", _EVENTS),
    IoctlRule("msr_known", SET_MSRS, "", "the MSR exists for this guest under this kernel", _MSR),
    IoctlRule("msr_reserved_bits", SET_MSRS, "", "no reserved bit of the MSR is set", _MSR),
    IoctlRule("msr_pat_memory_types", SET_MSRS, "", "each byte of IA32_PAT is a memory type", f"{_X86}: kvm_pat_valid"),
    IoctlRule("msr_efer_reserved", SET_MSRS, "", "EFER has no bit that this guest does not have", f"{_X86}: set_efer"),
    IoctlRule("msr_hwcr_reserved", SET_MSRS, "", "HWCR has only bits that KVM ignores or knows", _MSR),
    IoctlRule("msr_assist_page_backed", SET_MSRS, "", "the VP assist page is in guest memory", "arch/x86/kvm/hyperv.c: kvm_hv_set_msr"),
    IoctlRule("msr_debugctl_reserved", SET_MSRS, "", "IA32_DEBUGCTL has no bit that this guest does not have", f"{_VMX}; {_SVM}"),
    IoctlRule("msr_bndcfgs_supported", SET_MSRS, "", "the guest has MPX, and the value is canonical", _VMX),
    IoctlRule("feature_control_bits", SET_MSRS, "", "IA32_FEATURE_CONTROL has only bits that this guest has", _VMX),
    IoctlRule("feature_msr_unchanged_in_guest_mode", SET_MSRS, "", "a feature MSR keeps its value while the vCPU runs L2", f"{_X86}: do_set_msr"),
    IoctlRule("vmx_msr_needs_guest_vmx", SET_MSRS, "", "the guest's CPUID has VMX", _VMX),
    IoctlRule("vmx_msr_known", SET_MSRS, "", "the capability MSR exists, and is one that user space may write", _VMX_MSR),
    IoctlRule("vmx_msr_outside_vmx_operation", SET_MSRS, "", "the vCPU is not in VMX operation", _VMX_MSR),
    IoctlRule("vmx_msr_true_controls_only", SET_MSRS, "", "the controls are written by their TRUE MSR", _VMX_MSR),
    IoctlRule("vmx_msr_control_must_be_1", SET_MSRS, "", "no control that must be 1 becomes free", "arch/x86/kvm/vmx/nested.c: vmx_restore_control_msr"),
    IoctlRule("vmx_msr_control_may_be_1", SET_MSRS, "", "no control that must be 0 becomes free", "arch/x86/kvm/vmx/nested.c: vmx_restore_control_msr"),
    IoctlRule("vmx_msr_fixed0_superset", SET_MSRS, "", "no bit that must be 1 becomes free", "arch/x86/kvm/vmx/nested.c: vmx_restore_fixed0_msr"),
    IoctlRule("vmx_msr_fixed1_from_cpuid", SET_MSRS, "", "CR0_FIXED1 and CR4_FIXED1 follow from CPUID", _VMX_MSR),
    IoctlRule("vmx_msr_ept_vpid_subset", SET_MSRS, "", "EPT and VPID capabilities are a subset", "arch/x86/kvm/vmx/nested.c: vmx_restore_vmx_ept_vpid_cap"),
    IoctlRule("vmx_msr_vmfunc_subset", SET_MSRS, "", "VM functions are a subset", _VMX_MSR),
    IoctlRule("vmx_basic_features_subset", SET_MSRS, "", "features of IA32_VMX_BASIC are a subset", _VMX_BASIC),
    IoctlRule("vmx_basic_32_bit_addresses", SET_MSRS, "", "addresses are not limited to 32 bits", _VMX_BASIC),
    IoctlRule("vmx_basic_revision", SET_MSRS, "", "the VMCS revision is KVM's", _VMX_BASIC),
    IoctlRule("vmx_basic_size", SET_MSRS, "", "the VMCS is not smaller than KVM's", _VMX_BASIC),
    IoctlRule("vmx_misc_features_subset", SET_MSRS, "", "features of IA32_VMX_MISC are a subset", _VMX_MISC),
    IoctlRule("vmx_misc_preemption_timer_rate", SET_MSRS, "", "the preemption timer has the rate of KVM's, where it is offered", _VMX_MISC),
    IoctlRule("vmx_misc_cr3_target_count", SET_MSRS, "", "not more CR3 targets than KVM's", _VMX_MISC),
    IoctlRule("vmx_misc_msr_list_size", SET_MSRS, "", "not a larger MSR list than KVM's", _VMX_MISC),
    IoctlRule("vmx_misc_mseg_revision", SET_MSRS, "", "the MSEG revision is KVM's", _VMX_MISC),
    IoctlRule("msr_lbr_offered", SET_MSRS, "", "the host offers LBR virtualization", _SVM),
    IoctlRule("msr_virt_spec_ctrl_reserved", SET_MSRS, "", "VIRT_SPEC_CTRL has no bit but SSBD", _SVM),
    IoctlRule("msr_de_cfg_supported", SET_MSRS, "", "DE_CFG has only bits that the host has", _SVM),
    IoctlRule("msr_vm_cr_reserved", SET_MSRS, "", "VM_CR has only bits that KVM virtualizes", "arch/x86/kvm/svm/svm.c: svm_set_vm_cr"),
    IoctlRule("msr_vm_cr_svm_disable_while_svme", SET_MSRS, "", "SVMDIS is not set while EFER.SVME is", "arch/x86/kvm/svm/svm.c: svm_set_vm_cr"),
    IoctlRule("msr_tsc_ratio_default", SET_MSRS, "", "without TSC scaling the ratio is the default", _SVM),
    IoctlRule("msr_tsc_ratio_reserved", SET_MSRS, "", "the TSC ratio has no reserved bit", _SVM),
)
# fmt: on

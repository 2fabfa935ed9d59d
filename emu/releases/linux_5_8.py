"""Linux 5.8: what nested virtualization gained over 5.7."""

from emu.releases.linux_5_7 import LINUX_5_7
from emu.releases.schema import Added, Changed, Removed, after

SVM_LOAD = "arch/x86/kvm/svm/nested.c: load_nested_vmcb_control"
SVM_GET = "arch/x86/kvm/svm/nested.c: svm_get_nested_state"
CONTROL_AREA = "arch/x86/include/asm/svm.h: struct vmcb_control_area"
SAVE_AREA = "arch/x86/include/asm/svm.h: struct vmcb_save_area"
SVM_HEADER = "arch/x86/include/uapi/asm/kvm.h: struct kvm_svm_nested_state_hdr"
SVM_COPY = "arch/x86/kvm/svm/nested.c: copy_vmcb_control_area"
SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
IOCTL = "arch/x86/kvm/x86.c: kvm_arch_vcpu_ioctl"
SVM_CONTROLS = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_controls"
SVM_EFER = "arch/x86/kvm/svm/svm.c: svm_set_efer"
SVM_INIT = "arch/x86/kvm/svm/svm.c: svm_apic_init_signal_blocked"
INIT_VMCB = "arch/x86/kvm/svm/svm.c: init_vmcb"
STRUCT_KVM_NESTED_STATE = "arch/x86/include/uapi/asm/kvm.h: struct kvm_nested_state"
VMX_SET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_set_nested_state"
SYNC_VMCS02_TO_VMCS12 = "arch/x86/kvm/vmx/nested.c: sync_vmcs02_to_vmcs12"
KVM_VM_IOCTL_CHECK_EXTENSION = "arch/x86/kvm/x86.c: kvm_vm_ioctl_check_extension"
STRUCT_VMCS12 = "arch/x86/kvm/vmx/vmcs12.h: struct vmcs12"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
VMX_SET_CPU_CAPS = "arch/x86/kvm/vmx/vmx.c: vmx_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
MSR_BASED_FEATURES_ALL = "arch/x86/kvm/x86.c: msr_based_features_all"

LINUX_5_8 = after(
    LINUX_5_7,
    "5.8",
    Added("behaviours", "svm_ioctls_without_nested", seen=SVM_GET),
    Added("svm_legalized", "iopm_base_pa_5_8", seen=SVM_LOAD),
    Added("svm_legalized", "msrpm_base_pa_5_8", seen=SVM_LOAD),
    Changed("svm_maximum_size", 4224, seen=SVM_GET),
    Changed("svm_control_bytes", 256, seen=CONTROL_AREA),
    Changed("svm_save_bytes", 664, seen=SAVE_AREA),
    Added("svm_header", "vmcb_pa", seen=SVM_HEADER),
    Added("svm_control", "base", seen=SVM_COPY),
    Added("svm_save", "whole", seen=SVM_SET),
    Added("svm_rules", "header_readable", seen=IOCTL),
    Added("svm_rules", "size_covers_header", seen=IOCTL),
    Added("svm_rules", "flags_known", seen=IOCTL),
    Added("svm_rules", "run_pending_needs_guest_mode", seen=IOCTL),
    Added("svm_rules", "format_is_svm", seen=SVM_SET),
    Added("svm_rules", "flags_of_svm", seen=SVM_SET),
    Added("svm_rules", "without_svme_only_gif", seen=SVM_SET),
    Added("svm_rules", "smm_outside_guest_mode", seen=SVM_SET),
    Added("svm_rules", "leave_nested", seen=SVM_SET),
    Added("svm_rules", "set_gif", seen=SVM_SET),
    Added("svm_rules", "left_guest_mode", seen=SVM_SET),
    Added("svm_rules", "vmcb_pa_aligned", seen=SVM_SET),
    Added("svm_rules", "vmcb_pa_width", seen=SVM_SET),
    Added("svm_rules", "size_covers_vmcb", seen=SVM_SET),
    Added("svm_rules", "control_area_readable", seen=SVM_SET),
    Added("svm_rules", "save_area_readable", seen=SVM_SET),
    Added("svm_rules", "vmrun_intercept", seen=SVM_CONTROLS),
    Added("svm_rules", "asid_not_zero", seen=SVM_CONTROLS),
    Added("svm_rules", "nested_paging_on_host", seen=SVM_CONTROLS),
    Added("svm_rules", "vcpu_cr0_nw_without_cd", seen=SVM_SET),
    Added("svm_rules", "cr0_pg", seen=SVM_SET),
    Added("svm_rules", "keep_l1_in_hsave", seen=SVM_SET),
    Added("svm_rules", "load_controls", seen=SVM_SET),
    Added("svm_rules", "enter_guest_mode", seen=SVM_SET),
    Added("svm_rules", "set_gif_after_entry", seen=SVM_SET),
    Added("behaviours", "svm_reset_loads_dr6", seen=INIT_VMCB),
    Added("behaviours", "svm_clearing_svme_sets_gif", seen=SVM_EFER),
    Added("behaviours", "svm_init_intercept_blocks_init", seen=SVM_INIT),
    Added("nested_flags", "KVM_STATE_NESTED_GIF_SET", seen=STRUCT_KVM_NESTED_STATE),
    Added("vmx_header", "flags", seen=STRUCT_KVM_NESTED_STATE),
    Added("vmx_header", "preemption_timer_deadline", seen=STRUCT_KVM_NESTED_STATE),
    Added("vmx_rules", "vmx_header_flags_known", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "guest_mode_needs_vmcs12", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "evmcs_needs_vmcs12", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "vmcs12_pa_needs_vmcs12", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "set_deadline", seen=VMX_SET_NESTED_STATE),
    Added("behaviours", "keeps_timer_while_pending", seen=SYNC_VMCS02_TO_VMCS12),
    Added("behaviours", "vmx_ioctls_without_nested", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("vmcs12_fields", "dead_space", seen=STRUCT_VMCS12),
    Added("cpuid", "PDCM", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "PKU", seen=KVM_SET_CPU_CAPS),
    Removed("cpuid_vmx", "PKU", seen=VMX_SET_CPU_CAPS),
    Added("cpuid_emulated", "KVM_ASYNC_PF_INT", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "l2_caches_raw", seen=DO_CPUID_FUNC),
    Added("feature_msrs", "IA32_PERF_CAPABILITIES", seen=MSR_BASED_FEATURES_ALL),
)

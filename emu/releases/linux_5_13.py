"""Linux 5.13: what nested virtualization gained over 5.12."""

from emu.releases.linux_5_12 import LINUX_5_12
from emu.releases.schema import Added, Changed, Removed, after

SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
SVM_BITMAPS = "arch/x86/kvm/svm/nested.c: nested_svm_check_bitmap_pa"
SVM_SREGS = "arch/x86/kvm/svm/nested.c: nested_vmcb_valid_sregs"
SVM_CR3 = "arch/x86/kvm/svm/nested.c: nested_svm_load_cr3"
SVM_VMRUN_STATE = "arch/x86/kvm/svm/nested.c: svm_copy_vmrun_state"
CONTROL_AREA = "arch/x86/include/asm/svm.h: struct vmcb_control_area"
SVM_SWITCH = "arch/x86/kvm/svm/svm.c: svm_switch_vmcb"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
VMX_VCPU_AFTER_SET_CPUID = "arch/x86/kvm/vmx/vmx.c: vmx_vcpu_after_set_cpuid"
STRUCT_VMCS12 = "arch/x86/kvm/vmx/vmcs12.h: struct vmcs12"
NESTED_VMX_SETUP_CTLS_MSRS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_ctls_msrs"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"

LINUX_5_13 = after(
    LINUX_5_12,
    "5.13",
    Added("svm_legalized", "rflags_5_14", seen=f"{SVM_VMRUN_STATE} (between 5.12 and 5.14)"),
    Added("svm_legalized", "cpl_5_14", seen=f"{SVM_VMRUN_STATE} (between 5.12 and 5.14)"),
    Removed("svm_rules", "keep_l1_in_hsave", seen=f"{SVM_SET} (between 5.12 and 5.14)"),
    Added("svm_rules", "leave_guest_mode", seen=f"{SVM_SET} (between 5.12 and 5.14)"),
    Added("svm_rules", "move_registers_to_vmcb02", seen=f"{SVM_SET} (between 5.12 and 5.14)"),
    Added("svm_rules", "set_gif_before_entry", seen=f"{SVM_SET} (between 5.12 and 5.14)"),
    Added("svm_rules", "load_l1_into_vmcb01", seen=f"{SVM_SET} (between 5.12 and 5.14)"),
    Added("svm_rules", "cr0_pe", seen=f"{SVM_SET} (between 5.12 and 5.14)"),
    Added("svm_rules", "rflags_vm", seen=f"{SVM_SET} (between 5.12 and 5.14)"),
    Added("svm_rules", "msrpm_page_width", seen=f"{SVM_BITMAPS} (between 5.12 and 5.14)"),
    Added("svm_rules", "msrpm_next_page_width", seen=f"{SVM_BITMAPS} (between 5.12 and 5.14)"),
    Added("svm_rules", "iopm_page_width", seen=f"{SVM_BITMAPS} (between 5.12 and 5.14)"),
    Added("svm_rules", "iopm_next_page_width", seen=f"{SVM_BITMAPS} (between 5.12 and 5.14)"),
    Added("svm_rules", "cr0_nw_without_cd", seen=f"{SVM_SREGS} (between 5.12 and 5.14)"),
    Added("svm_rules", "cr0_upper_half", seen=f"{SVM_SREGS} (between 5.12 and 5.14)"),
    Added("svm_rules", "dr6_upper_half", seen=f"{SVM_SREGS} (between 5.12 and 5.14)"),
    Added("svm_rules", "dr7_upper_half", seen=f"{SVM_SREGS} (between 5.12 and 5.14)"),
    Added("svm_rules", "long_mode_needs_pae", seen=f"{SVM_SREGS} (between 5.12 and 5.14)"),
    Added("svm_rules", "cr3_width_in_long_mode", seen=f"{SVM_SREGS} (between 5.12 and 5.14)"),
    Added("svm_rules", "cr4_reserved", seen=f"{SVM_SREGS} (between 5.12 and 5.14)"),
    Added("svm_rules", "efer_reserved", seen=f"{SVM_SREGS} (between 5.12 and 5.14)"),
    Added("svm_rules", "vcpu_cr3_width", seen=f"{SVM_CR3} (between 5.12 and 5.14)"),
    Removed("svm_save", "whole", seen=f"{SVM_SET} (between 5.12 and 5.14)"),
    Added("svm_save", "vmrun", seen=f"{SVM_VMRUN_STATE} (between 5.12 and 5.14)"),
    Changed("svm_control_bytes", 1024, seen=f"{CONTROL_AREA} (between 5.12 and 5.14)"),
    Added("behaviours", "svm_two_blocks", seen=f"{SVM_SWITCH} (between 5.12 and 5.14)"),
    Added("behaviours", "svm_sysenter_low_half", seen=f"{SVM_MSR} (between 5.12 and 5.14)"),
    Added("behaviours", "feature_control_sgx", seen=VMX_VCPU_AFTER_SET_CPUID),
    Added("vmcs12_fields", "encls_exiting_bitmap", seen=STRUCT_VMCS12),
    Added("vmx_controls", "ENABLE_ENCLS_EXITING", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("cpuid", "SGX", seen=f"{KVM_SET_CPU_CAPS} (between 5.12.9 and 5.14.2)"),
    Added("cpuid", "SGX_LC", seen=f"{KVM_SET_CPU_CAPS} (between 5.12.9 and 5.14.2)"),
    Added("cpuid", "SGX1", seen=f"{KVM_SET_CPU_CAPS} (between 5.12.9 and 5.14.2)"),
    Added("cpuid", "SGX2", seen=f"{KVM_SET_CPU_CAPS} (between 5.12.9 and 5.14.2)"),
    Added("cpuid", "BUS_LOCK_DETECT", seen=f"{KVM_SET_CPU_CAPS} (between 5.12.9 and 5.14.2)"),
)

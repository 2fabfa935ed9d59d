"""Linux 7.2: what nested virtualization gained over 7.1."""

from emu.releases.linux_7_1 import LINUX_7_1
from emu.releases.schema import Added, Removed, after

SVM_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"
SVM_HEADER = "arch/x86/include/uapi/asm/kvm.h: struct kvm_svm_nested_state_hdr"
SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
SVM_PAT = "arch/x86/include/uapi/asm/kvm.h: KVM_X86_QUIRK_NESTED_SVM_SHARED_PAT"
SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"
KVM_VM_IOCTL_CHECK_EXTENSION = "arch/x86/kvm/x86.c: kvm_vm_ioctl_check_extension"
PREPARE_VMCS02_RARE = "arch/x86/kvm/vmx/nested.c: prepare_vmcs02_rare"
KVM_IS_VALID_SREGS_BETWEEN = "arch/x86/kvm/regs.c: kvm_is_valid_sregs (between 7.1 and 7.2)"
NESTED_VMX_SETUP_SECONDARY_CTLS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_secondary_ctls"
KVM_INITIALIZE_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_initialize_cpu_caps"

LINUX_7_2 = after(
    LINUX_7_1,
    "7.2",
    Added("cpuid_svm", "GMET", seen=SVM_CAPS),
    Removed("behaviours", "svm_ioctls_without_nested", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("svm_legalized", "misc_ctl_gmet_7_2", seen=SVM_CACHE),
    Added("svm_header", "gpat", seen=SVM_HEADER),
    Added("svm_rules", "gpat_types", seen=SVM_SET),
    Added("svm_rules", "load_gpat", seen=SVM_SET),
    Added("behaviours", "svm_quirk_shared_pat", seen=SVM_PAT),
    Removed("behaviours", "vmx_ioctls_without_nested", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Removed("behaviours", "loads_pdptrs_rare", seen=PREPARE_VMCS02_RARE),
    Added("sregs_rules", "sregs_efer_reserved", seen=KVM_IS_VALID_SREGS_BETWEEN),
    Added("vmx_controls", "MODE_BASED_EXECUTE_CONTROL", seen=NESTED_VMX_SETUP_SECONDARY_CTLS),
    Added("vmx_controls", "EPT_ADVANCED_EXIT_INFORMATION", seen=NESTED_VMX_SETUP_SECONDARY_CTLS),
    Added("cpuid_emulated", "GP_ON_USER_CPUID", seen=KVM_INITIALIZE_CPU_CAPS),
)

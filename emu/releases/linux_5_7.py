"""Linux 5.7: what nested virtualization gained over 5.6."""

from emu.releases.linux_5_6 import LINUX_5_6
from emu.releases.schema import Added, Removed, after

STRUCT_KVM_NESTED_STATE = "arch/x86/include/uapi/asm/kvm.h: struct kvm_nested_state"
VMX_SET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_set_nested_state"
NESTED_VMX_CHECK_EPTP = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_eptp"
NESTED_VMX_SETUP_CTLS_MSRS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_ctls_msrs"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
VMX_SET_CPU_CAPS = "arch/x86/kvm/vmx/vmx.c: vmx_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"

LINUX_5_7 = after(
    LINUX_5_6,
    "5.7",
    Added("nested_flags", "KVM_STATE_NESTED_MTF_PENDING", seen=STRUCT_KVM_NESTED_STATE),
    Removed("vmx_rules", "owe_vmcs12_to_evmcs", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "request_evmcs_page", seen=VMX_SET_NESTED_STATE),
    Added("behaviours", "eptp_walk_of_5", seen=NESTED_VMX_CHECK_EPTP),
    Added("vmx_controls", "EPT_PAGE_WALK_5", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("cpuid", "AVX512_VP2INTERSECT", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "FSRM", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_vmx", "WAITPKG", seen=VMX_SET_CPU_CAPS),
    Added("cpuid_leaves", "xstate_alignment", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "processor_trace_raw", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "svm_leaf_without_nested", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "gbpages_without_tdp", seen=KVM_SET_CPU_CAPS),
)

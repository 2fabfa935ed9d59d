"""Linux 6.1: what nested virtualization gained over 6.0."""

from emu.releases.linux_6_0 import LINUX_6_0
from emu.releases.schema import Added, Removed, after

SVM_INIT = "arch/x86/kvm/svm/svm.c: svm_apic_init_signal_blocked"
NESTED_VMX_VMEXIT = "arch/x86/kvm/vmx/nested.c: nested_vmx_vmexit"
NESTED_VMX_CHECK_CONTROLS = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_controls"
EVMCS1_UNSUPPORTED_VMEXIT_CTRL = "arch/x86/kvm/vmx/evmcs.h: EVMCS1_UNSUPPORTED_VMEXIT_CTRL"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
NESTED_VMX_SETUP_CTLS_MSRS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_ctls_msrs"

LINUX_6_1 = after(
    LINUX_6_0,
    "6.1",
    Removed("behaviours", "svm_init_intercept_blocks_init", seen=SVM_INIT),
    Added("behaviours", "vmexit_drops_mtf", seen=NESTED_VMX_VMEXIT),
    Removed("behaviours", "evmcs_without_hyperv_cpuid", seen=NESTED_VMX_CHECK_CONTROLS),
    Removed("vmx_rules", "evmcs_exit_controls", seen=EVMCS1_UNSUPPORTED_VMEXIT_CTRL),
    Removed("vmx_rules", "evmcs_entry_controls", seen=EVMCS1_UNSUPPORTED_VMEXIT_CTRL),
    Added("vmx_rules", "evmcs_exit_timer", seen=EVMCS1_UNSUPPORTED_VMEXIT_CTRL),
    Added("cpuid_leaves", "reserved_bits_dropped", seen=DO_CPUID_FUNC),
    Added("vmx_controls", "PERF_GLOBAL_CTRL_ALWAYS_ENTRY", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("vmx_controls", "PERF_GLOBAL_CTRL_ALWAYS_EXIT", seen=NESTED_VMX_SETUP_CTLS_MSRS),
)

"""Linux 5.3: what nested virtualization gained over 5.2."""

from emu.releases.linux_5_2 import LINUX_5_2
from emu.releases.schema import Added, Changed, Removed, after

SYNC_VMCS02_TO_VMCS12 = "arch/x86/kvm/vmx/nested.c: sync_vmcs02_to_vmcs12"
VMX_GET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_get_nested_state"
NESTED_VMX_CHECK_HOST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_host_state"
VMX_SET_VMX_MSR = "arch/x86/kvm/vmx/nested.c: vmx_set_vmx_msr"
DO_CPUID_7_MASK = "arch/x86/kvm/cpuid.c: do_cpuid_7_mask"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
NESTED_VMX_SETUP_CTLS_MSRS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_ctls_msrs"

LINUX_5_3 = after(
    LINUX_5_2,
    "5.3",
    Removed("behaviours", "syncs_debugctl", seen=SYNC_VMCS02_TO_VMCS12),
    Removed("behaviours", "syncs_pat", seen=SYNC_VMCS02_TO_VMCS12),
    Removed("behaviours", "syncs_pdptrs_always", seen=SYNC_VMCS02_TO_VMCS12),
    Removed("behaviours", "flushes_rare_on_get", seen=VMX_GET_NESTED_STATE),
    Added("vmx_rules", "host_cs_rpl_ti", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_ss_rpl_ti", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_ds_rpl_ti", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_es_rpl_ti", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_fs_rpl_ti", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_gs_rpl_ti", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_tr_rpl_ti", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_cs_not_null", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_tr_not_null", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_ss_not_null", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_fs_base_canonical", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_gs_base_canonical", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_gdtr_base_canonical", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_idtr_base_canonical", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_tr_base_canonical", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("behaviours", "vmfunc_msr_writable", seen=VMX_SET_VMX_MSR),
    Added("cpuid", "AVX512_BF16", seen=DO_CPUID_7_MASK),
    Added("cpuid", "AMD_STIBP_ALWAYS_ON", seen=DO_CPUID_FUNC),
    Added("cpuid_emulated", "KVM_POLL_CONTROL", seen=DO_CPUID_FUNC),
    Added("cpuid_emulated", "KVM_PV_SCHED_YIELD", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "subleaf_7_1", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "processor_trace_raw", seen=DO_CPUID_FUNC),
    Changed("cpuid_basic_limit", 0x1F, seen=DO_CPUID_FUNC),
    Added("vmx_controls", "ENABLE_RDTSCP", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("vmx_controls", "RDRAND_EXITING", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("vmx_controls", "ENABLE_INVPCID", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("vmx_controls", "RDSEED_EXITING", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("vmx_controls", "ENABLE_XSAVES_XRSTORS", seen=NESTED_VMX_SETUP_CTLS_MSRS),
)

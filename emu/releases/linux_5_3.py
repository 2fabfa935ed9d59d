"""Linux 5.3: what nested virtualization gained over 5.2."""

from emu.releases.linux_5_2 import LINUX_5_2
from emu.releases.schema import Added, Removed, after

SYNC_VMCS02_TO_VMCS12 = "arch/x86/kvm/vmx/nested.c: sync_vmcs02_to_vmcs12"
VMX_GET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_get_nested_state"
NESTED_VMX_CHECK_HOST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_host_state"
VMX_SET_VMX_MSR = "arch/x86/kvm/vmx/nested.c: vmx_set_vmx_msr"

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
)

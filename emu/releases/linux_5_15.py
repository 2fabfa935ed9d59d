"""Linux 5.15: what nested virtualization gained over 5.14."""

from emu.releases.linux_5_14 import LINUX_5_14
from emu.releases.schema import Added, Removed, after

INIT_VMCB = "arch/x86/kvm/svm/svm.c: init_vmcb"
RESET = "arch/x86/kvm/x86.c: kvm_vcpu_reset"
PREPARE_VMCS02 = "arch/x86/kvm/vmx/nested.c: prepare_vmcs02"
LOAD_VMCS12_HOST_STATE = "arch/x86/kvm/vmx/nested.c: load_vmcs12_host_state"

LINUX_5_15 = after(
    LINUX_5_14,
    "5.15",
    Removed("behaviours", "svm_reset_loads_dr6", seen=INIT_VMCB),
    Added("behaviours", "init_keeps_cache_bits", seen=f"{RESET} (between 5.14 and 5.15)"),
    Removed("vmx_rules", "l2_cs_base_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ss_base_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ds_base_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_es_base_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_fs_base_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_gs_base_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_cs_limit_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ss_limit_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ds_limit_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_es_limit_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_fs_limit_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_gs_limit_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_cs_rights_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ss_rights_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ds_rights_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_es_rights_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_fs_rights_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_gs_rights_v8086", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_cs_rpl_is_ss_rpl", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_cs_usable", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_cs_accessed_code", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_cs_code_or_data", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_cs_dpl_conforming", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_cs_dpl_nonconforming", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ss_type", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ss_code_or_data", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ss_dpl_is_rpl", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ds_code_or_data", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_es_code_or_data", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_fs_code_or_data", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_gs_code_or_data", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ds_dpl_below_rpl", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_es_dpl_below_rpl", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_fs_dpl_below_rpl", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_gs_dpl_below_rpl", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_tr_usable", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_tr_ti", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_tr_type", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ldtr_ti", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "l2_ldtr_type", seen=PREPARE_VMCS02),
    Added("behaviours", "loads_host_ldtr", seen=LOAD_VMCS12_HOST_STATE),
)

"""Linux 5.4: what nested virtualization gained over 5.3."""

from emu.releases.linux_5_3 import LINUX_5_3
from emu.releases.schema import Added, Changed, Removed, after

VMX_SET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_set_nested_state"
NESTED_VMX_CHECK_HOST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_host_state"
NESTED_CHECK_VM_ENTRY_CONTROLS = "arch/x86/kvm/vmx/nested.c: nested_check_vm_entry_controls"
KVM_VALID_CR4 = "arch/x86/kvm/x86.c: kvm_valid_cr4"
DO_CPUID_7_MASK = "arch/x86/kvm/cpuid.c: do_cpuid_7_mask"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
KVM_GET_ARCH_CAPABILITIES = "arch/x86/kvm/x86.c: kvm_get_arch_capabilities"

LINUX_5_4 = after(
    LINUX_5_3,
    "5.4",
    Changed("entry_failure_status", 2, seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "legacy_mode_excludes_64_bit_host", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "long_mode_needs_64_bit_host", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_64_needs_pae", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_32_excludes_ia32e_guest", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_32_excludes_pcide", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_32_rip_upper_half", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_rip_canonical_for_vcpu", seen=NESTED_VMX_CHECK_HOST_STATE),
    Removed("vmx_rules", "error_code_bit_15", seen=NESTED_CHECK_VM_ENTRY_CONTROLS),
    Removed("sregs_rules", "sregs_cr4_osxsave", seen=KVM_VALID_CR4),
    Added("sregs_rules", "sregs_cr4_reserved", seen=KVM_VALID_CR4),
    Added("cpuid", "RDPID", seen=DO_CPUID_7_MASK),
    Added("cpuid", "CLZERO", seen=DO_CPUID_FUNC),
    Added("cpuid", "XSAVEERPTR", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "speculation_bits_shared", seen=DO_CPUID_FUNC),
    Added("arch_capabilities", "PSCHANGE_MC_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("arch_capabilities", "RDCL_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("arch_capabilities", "SSB_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("arch_capabilities", "MDS_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("arch_capabilities", "TAA_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("arch_capabilities", "TSX_CTRL_HIDDEN", seen=KVM_GET_ARCH_CAPABILITIES),
)

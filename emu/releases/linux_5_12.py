"""Linux 5.12: what nested virtualization gained over 5.11."""

from emu.releases.linux_5_11 import LINUX_5_11
from emu.releases.schema import Added, Changed, Removed, after

SVM_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"
SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
VMX_SET_CPU_CAPS = "arch/x86/kvm/vmx/vmx.c: vmx_set_cpu_caps"
VMX_GET_PERF_CAPABILITIES = "arch/x86/kvm/vmx/capabilities.h: vmx_get_perf_capabilities"


LINUX_5_12 = after(
    LINUX_5_11,
    "5.12",
    Added("cpuid_svm", "SVME_ADDR_CHK", seen=SVM_CAPS),
    Added("svm_rules", "efer_svme", seen=f"{SVM_SET} (and 5.11.14, a stable tree)"),
    Added("cpuid", "INVPCID", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AVX_VNNI", seen=KVM_SET_CPU_CAPS),
    Removed("cpuid_vmx", "INVPCID", seen=VMX_SET_CPU_CAPS),
    Removed("cpuid_svm", "INVPCID", seen=SVM_CAPS),
    Changed("perf_capabilities_mask", 0x3F, seen=VMX_GET_PERF_CAPABILITIES),
)

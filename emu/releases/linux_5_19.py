"""Linux 5.19: what nested virtualization gained over 5.18."""

from emu.releases.linux_5_18 import LINUX_5_18
from emu.releases.schema import Added, Changed, after

SVM_VGIF = "arch/x86/kvm/svm/svm.h: get_vgif_vmcb"
SVM_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
SAVE_AREA = "arch/x86/include/asm/svm.h: struct vmcb_save_area"
KVM_GET_ARCH_CAPABILITIES = "arch/x86/kvm/x86.c: kvm_get_arch_capabilities"


LINUX_5_19 = after(
    LINUX_5_18,
    "5.19",
    Added("cpuid_svm", "V_VMSAVE_VMLOAD", seen=SVM_CAPS),
    Added("cpuid_svm", "LBRV", seen=SVM_CAPS),
    Added("cpuid_svm", "PAUSEFILTER", seen=SVM_CAPS),
    Added("cpuid_svm", "PFTHRESHOLD", seen=SVM_CAPS),
    Added("cpuid_svm", "VGIF", seen=SVM_CAPS),
    Added("behaviours", "svm_gif_of_vgif_block", seen=SVM_VGIF),
    Added("behaviours", "svm_offers_vgif", seen=SVM_CAPS),
    Added("behaviours", "svm_lbr_in_vmcb01", seen=SVM_MSR),
    Changed("svm_save_bytes", 740, seen=SAVE_AREA),
    Changed(
        "arch_capabilities_mask",
        0xFFFF_FFFF_FFFB_FFFF,
        seen=f"{KVM_GET_ARCH_CAPABILITIES} (between 5.17 and 5.18.12)",
    ),
)

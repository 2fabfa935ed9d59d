"""Linux 7.2: what nested virtualization gained over 7.1."""

from emu.releases.linux_7_1 import LINUX_7_1
from emu.releases.schema import Added, after

SVM_HEADER = "arch/x86/include/uapi/asm/kvm.h: struct kvm_svm_nested_state_hdr"
SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
SVM_PAT = "arch/x86/include/uapi/asm/kvm.h: KVM_X86_QUIRK_NESTED_SVM_SHARED_PAT"
SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"


LINUX_7_2 = after(
    LINUX_7_1,
    "7.2",
    Added("svm_header", "gpat", seen=SVM_HEADER),
    Added("svm_rules", "gpat_types", seen=SVM_SET),
    Added("svm_rules", "load_gpat", seen=SVM_SET),
    Added("behaviours", "svm_quirk_shared_pat", seen=SVM_PAT),
    Added("behaviours", "svm_drops_unusable_gmet", seen=SVM_CACHE),
)

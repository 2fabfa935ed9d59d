"""Linux 6.6: what nested virtualization gained over 6.5."""

from emu.releases.linux_6_5 import LINUX_6_5
from emu.releases.schema import Changed, after

SAVE_AREA = "arch/x86/include/asm/svm.h: struct vmcb_save_area"


LINUX_6_6 = after(
    LINUX_6_5,
    "6.6",
    Changed("svm_save_bytes", 744, seen=SAVE_AREA),
)

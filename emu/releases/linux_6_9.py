"""Linux 6.9: what nested virtualization gained over 6.8."""

from emu.releases.linux_6_8 import LINUX_6_8
from emu.releases.schema import Changed, after

VMX_GET_PERF_CAPABILITIES = "arch/x86/kvm/vmx/vmx.c: vmx_get_perf_capabilities"

LINUX_6_9 = after(
    LINUX_6_8,
    "6.9",
    Changed("perf_capabilities_mask", 0xFFF, seen=VMX_GET_PERF_CAPABILITIES),
)

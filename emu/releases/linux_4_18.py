"""Linux 4.18: the last release without KVM_GET_NESTED_STATE."""

from emu.releases.schema import first

LINUX_4_18 = first(
    "4.18",
)

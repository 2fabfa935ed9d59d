"""Linux 6.19: what nested virtualization gained over 6.18."""

from emu.releases.linux_6_18 import LINUX_6_18
from emu.releases.schema import after

LINUX_6_19 = after(
    LINUX_6_18,
    "6.19",
)

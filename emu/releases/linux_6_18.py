"""Linux 6.18: what nested virtualization gained over 6.17."""

from emu.releases.linux_6_17 import LINUX_6_17
from emu.releases.schema import after

LINUX_6_18 = after(
    LINUX_6_17,
    "6.18",
)

"""Linux 6.16: what nested virtualization gained over 6.15."""

from emu.releases.linux_6_15 import LINUX_6_15
from emu.releases.schema import after

LINUX_6_16 = after(
    LINUX_6_15,
    "6.16",
)

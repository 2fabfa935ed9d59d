"""Linux 5.18: what nested virtualization gained over 5.17."""

from emu.releases.linux_5_17 import LINUX_5_17
from emu.releases.schema import after

LINUX_5_18 = after(
    LINUX_5_17,
    "5.18",
)

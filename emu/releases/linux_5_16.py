"""Linux 5.16: what nested virtualization gained over 5.15."""

from emu.releases.linux_5_15 import LINUX_5_15
from emu.releases.schema import after

LINUX_5_16 = after(
    LINUX_5_15,
    "5.16",
)

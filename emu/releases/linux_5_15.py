"""Linux 5.15: what nested virtualization gained over 5.14."""

from emu.releases.linux_5_14 import LINUX_5_14
from emu.releases.schema import after

LINUX_5_15 = after(
    LINUX_5_14,
    "5.15",
)

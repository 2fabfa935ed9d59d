"""Linux 6.15: what nested virtualization gained over 6.14."""

from emu.releases.linux_6_14 import LINUX_6_14
from emu.releases.schema import after

LINUX_6_15 = after(
    LINUX_6_14,
    "6.15",
)

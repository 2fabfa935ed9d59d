"""Linux 6.12: what nested virtualization gained over 6.11."""

from emu.releases.linux_6_11 import LINUX_6_11
from emu.releases.schema import after

LINUX_6_12 = after(
    LINUX_6_11,
    "6.12",
)

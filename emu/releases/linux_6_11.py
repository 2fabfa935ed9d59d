"""Linux 6.11: what nested virtualization gained over 6.10."""

from emu.releases.linux_6_10 import LINUX_6_10
from emu.releases.schema import after

LINUX_6_11 = after(
    LINUX_6_10,
    "6.11",
)

"""Linux 6.7: what nested virtualization gained over 6.6."""

from emu.releases.linux_6_6 import LINUX_6_6
from emu.releases.schema import after

LINUX_6_7 = after(
    LINUX_6_6,
    "6.7",
)

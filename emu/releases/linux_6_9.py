"""Linux 6.9: what nested virtualization gained over 6.8."""

from emu.releases.linux_6_8 import LINUX_6_8
from emu.releases.schema import after

LINUX_6_9 = after(
    LINUX_6_8,
    "6.9",
)

"""Linux 6.10: what nested virtualization gained over 6.9."""

from emu.releases.linux_6_9 import LINUX_6_9
from emu.releases.schema import after

LINUX_6_10 = after(
    LINUX_6_9,
    "6.10",
)

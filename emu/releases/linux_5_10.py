"""Linux 5.10: what nested virtualization gained over 5.9."""

from emu.releases.linux_5_9 import LINUX_5_9
from emu.releases.schema import after

LINUX_5_10 = after(
    LINUX_5_9,
    "5.10",
)

"""Linux 5.9: what nested virtualization gained over 5.8."""

from emu.releases.linux_5_8 import LINUX_5_8
from emu.releases.schema import after

LINUX_5_9 = after(
    LINUX_5_8,
    "5.9",
)

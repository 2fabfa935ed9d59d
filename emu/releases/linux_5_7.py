"""Linux 5.7: what nested virtualization gained over 5.6."""

from emu.releases.linux_5_6 import LINUX_5_6
from emu.releases.schema import after

LINUX_5_7 = after(
    LINUX_5_6,
    "5.7",
)

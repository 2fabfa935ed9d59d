"""Linux 5.12: what nested virtualization gained over 5.11."""

from emu.releases.linux_5_11 import LINUX_5_11
from emu.releases.schema import after

LINUX_5_12 = after(
    LINUX_5_11,
    "5.12",
)

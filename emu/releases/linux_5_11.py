"""Linux 5.11: what nested virtualization gained over 5.10."""

from emu.releases.linux_5_10 import LINUX_5_10
from emu.releases.schema import after

LINUX_5_11 = after(
    LINUX_5_10,
    "5.11",
)

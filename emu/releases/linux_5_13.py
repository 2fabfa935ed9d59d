"""Linux 5.13: what nested virtualization gained over 5.12."""

from emu.releases.linux_5_12 import LINUX_5_12
from emu.releases.schema import after

LINUX_5_13 = after(
    LINUX_5_12,
    "5.13",
)

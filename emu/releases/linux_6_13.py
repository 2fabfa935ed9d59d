"""Linux 6.13: what nested virtualization gained over 6.12."""

from emu.releases.linux_6_12 import LINUX_6_12
from emu.releases.schema import after

LINUX_6_13 = after(
    LINUX_6_12,
    "6.13",
)

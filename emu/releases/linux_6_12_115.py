"""Linux 6.12.115, the stable tree that Debian ships: how it differs from mainline 6.12."""

from emu.releases.linux_6_12 import LINUX_6_12
from emu.releases.schema import after

LINUX_6_12_115 = after(
    LINUX_6_12,
    "6.12.115",
    stable=True,
)

"""Linux 6.18.15, the stable tree that Debian ships: how it differs from mainline 6.18."""

from emu.releases.linux_6_18 import LINUX_6_18
from emu.releases.schema import after

LINUX_6_18_15 = after(
    LINUX_6_18,
    "6.18.15",
    stable=True,
)

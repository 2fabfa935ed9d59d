"""Linux 7.2.13, the stable tree that Debian ships: how it differs from mainline 7.2."""

from emu.releases.linux_7_2 import LINUX_7_2
from emu.releases.schema import after

LINUX_7_2_13 = after(
    LINUX_7_2,
    "7.2.13",
    stable=True,
)

"""Linux 5.10.262, the stable tree that Debian ships: how it differs from mainline 5.10."""

from emu.releases.linux_5_10 import LINUX_5_10
from emu.releases.schema import after

LINUX_5_10_262 = after(
    LINUX_5_10,
    "5.10.262",
    stable=True,
)

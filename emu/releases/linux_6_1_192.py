"""Linux 6.1.192, the stable tree that Debian ships: how it differs from mainline 6.1."""

from emu.releases.linux_6_1 import LINUX_6_1
from emu.releases.schema import after

LINUX_6_1_192 = after(
    LINUX_6_1,
    "6.1.192",
    stable=True,
)

"""Linux 6.4: what nested virtualization gained over 6.3."""

from emu.releases.linux_6_3 import LINUX_6_3
from emu.releases.schema import after

LINUX_6_4 = after(
    LINUX_6_3,
    "6.4",
)

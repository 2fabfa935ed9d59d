"""Linux 6.5: what nested virtualization gained over 6.4."""

from emu.releases.linux_6_4 import LINUX_6_4
from emu.releases.schema import after

LINUX_6_5 = after(
    LINUX_6_4,
    "6.5",
)

"""Linux 6.3: what nested virtualization gained over 6.2."""

from emu.releases.linux_6_2 import LINUX_6_2
from emu.releases.schema import after

LINUX_6_3 = after(
    LINUX_6_2,
    "6.3",
)

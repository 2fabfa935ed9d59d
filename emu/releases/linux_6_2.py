"""Linux 6.2: what nested virtualization gained over 6.1."""

from emu.releases.linux_6_1 import LINUX_6_1
from emu.releases.schema import after

LINUX_6_2 = after(
    LINUX_6_1,
    "6.2",
)

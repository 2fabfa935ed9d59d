"""Linux 7.3: what nested virtualization gained over 7.2."""

from emu.releases.linux_7_2 import LINUX_7_2
from emu.releases.schema import after

LINUX_7_3 = after(
    LINUX_7_2,
    "7.3",
)

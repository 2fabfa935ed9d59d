"""Linux 5.3: what nested virtualization gained over 5.2."""

from emu.releases.linux_5_2 import LINUX_5_2
from emu.releases.schema import after

LINUX_5_3 = after(
    LINUX_5_2,
    "5.3",
)

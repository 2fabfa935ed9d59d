"""Linux 5.2: what nested virtualization gained over 5.1."""

from emu.releases.linux_5_1 import LINUX_5_1
from emu.releases.schema import after

LINUX_5_2 = after(
    LINUX_5_1,
    "5.2",
)

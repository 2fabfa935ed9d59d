"""Linux 7.2: what nested virtualization gained over 7.1."""

from emu.releases.linux_7_1 import LINUX_7_1
from emu.releases.schema import after

LINUX_7_2 = after(
    LINUX_7_1,
    "7.2",
)

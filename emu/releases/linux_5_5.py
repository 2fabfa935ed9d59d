"""Linux 5.5: what nested virtualization gained over 5.4."""

from emu.releases.linux_5_4 import LINUX_5_4
from emu.releases.schema import after

LINUX_5_5 = after(
    LINUX_5_4,
    "5.5",
)

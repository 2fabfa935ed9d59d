"""Linux 5.4: what nested virtualization gained over 5.3."""

from emu.releases.linux_5_3 import LINUX_5_3
from emu.releases.schema import after

LINUX_5_4 = after(
    LINUX_5_3,
    "5.4",
)

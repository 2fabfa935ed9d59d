"""Linux 5.0: what nested virtualization gained over 4.20."""

from emu.releases.linux_4_20 import LINUX_4_20
from emu.releases.schema import after

LINUX_5_0 = after(
    LINUX_4_20,
    "5.0",
)

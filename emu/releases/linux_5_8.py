"""Linux 5.8: what nested virtualization gained over 5.7."""

from emu.releases.linux_5_7 import LINUX_5_7
from emu.releases.schema import after

LINUX_5_8 = after(
    LINUX_5_7,
    "5.8",
)

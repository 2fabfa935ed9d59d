"""Linux 6.8: what nested virtualization gained over 6.7."""

from emu.releases.linux_6_7 import LINUX_6_7
from emu.releases.schema import after

LINUX_6_8 = after(
    LINUX_6_7,
    "6.8",
)

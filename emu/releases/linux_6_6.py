"""Linux 6.6: what nested virtualization gained over 6.5."""

from emu.releases.linux_6_5 import LINUX_6_5
from emu.releases.schema import after

LINUX_6_6 = after(
    LINUX_6_5,
    "6.6",
)

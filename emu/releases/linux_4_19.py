"""Linux 4.19: what nested virtualization gained over 4.18."""

from emu.releases.linux_4_18 import LINUX_4_18
from emu.releases.schema import after

LINUX_4_19 = after(
    LINUX_4_18,
    "4.19",
)

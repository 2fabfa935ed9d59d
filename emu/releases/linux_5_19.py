"""Linux 5.19: what nested virtualization gained over 5.18."""

from emu.releases.linux_5_18 import LINUX_5_18
from emu.releases.schema import after

LINUX_5_19 = after(
    LINUX_5_18,
    "5.19",
)

"""Linux 5.17: what nested virtualization gained over 5.16."""

from emu.releases.linux_5_16 import LINUX_5_16
from emu.releases.schema import after

LINUX_5_17 = after(
    LINUX_5_16,
    "5.17",
)

"""Linux 6.17: what nested virtualization gained over 6.16."""

from emu.releases.linux_6_16 import LINUX_6_16
from emu.releases.schema import after

LINUX_6_17 = after(
    LINUX_6_16,
    "6.17",
)

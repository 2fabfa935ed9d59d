"""Linux 4.20: what nested virtualization gained over 4.19."""

from emu.releases.linux_4_19 import LINUX_4_19
from emu.releases.schema import after

LINUX_4_20 = after(
    LINUX_4_19,
    "4.20",
)

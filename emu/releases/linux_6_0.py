"""Linux 6.0: what nested virtualization gained over 5.19."""

from emu.releases.linux_5_19 import LINUX_5_19
from emu.releases.schema import after

LINUX_6_0 = after(
    LINUX_5_19,
    "6.0",
)

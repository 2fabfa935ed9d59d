"""Linux 7.0: what nested virtualization gained over 6.19."""

from emu.releases.linux_6_19 import LINUX_6_19
from emu.releases.schema import after

LINUX_7_0 = after(
    LINUX_6_19,
    "7.0",
)

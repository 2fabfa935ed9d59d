"""Linux 5.1: what nested virtualization gained over 5.0."""

from emu.releases.linux_5_0 import LINUX_5_0
from emu.releases.schema import after

LINUX_5_1 = after(
    LINUX_5_0,
    "5.1",
)

"""Linux 6.1: what nested virtualization gained over 6.0."""

from emu.releases.linux_6_0 import LINUX_6_0
from emu.releases.schema import after

LINUX_6_1 = after(
    LINUX_6_0,
    "6.1",
)

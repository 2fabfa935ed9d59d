"""Linux 7.1: what nested virtualization gained over 7.0."""

from emu.releases.linux_7_0 import LINUX_7_0
from emu.releases.schema import after

LINUX_7_1 = after(
    LINUX_7_0,
    "7.1",
)

"""Linux 5.6: what nested virtualization gained over 5.5."""

from emu.releases.linux_5_5 import LINUX_5_5
from emu.releases.schema import after

LINUX_5_6 = after(
    LINUX_5_5,
    "5.6",
)

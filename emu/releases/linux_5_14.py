"""Linux 5.14: what nested virtualization gained over 5.13."""

from emu.releases.linux_5_13 import LINUX_5_13
from emu.releases.schema import after

LINUX_5_14 = after(
    LINUX_5_13,
    "5.14",
)

"""Linux 6.14: what nested virtualization gained over 6.13."""

from emu.releases.linux_6_13 import LINUX_6_13
from emu.releases.schema import after

LINUX_6_14 = after(
    LINUX_6_13,
    "6.14",
)

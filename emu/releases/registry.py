"""All releases by name."""

from types import MappingProxyType

from emu.errors import InputError
from emu.releases.linux_4_18 import LINUX_4_18
from emu.releases.linux_4_19 import LINUX_4_19
from emu.releases.linux_4_20 import LINUX_4_20
from emu.releases.linux_5_0 import LINUX_5_0
from emu.releases.linux_5_1 import LINUX_5_1
from emu.releases.linux_5_2 import LINUX_5_2
from emu.releases.linux_5_3 import LINUX_5_3
from emu.releases.linux_5_4 import LINUX_5_4
from emu.releases.linux_5_5 import LINUX_5_5
from emu.releases.linux_5_6 import LINUX_5_6
from emu.releases.linux_5_7 import LINUX_5_7
from emu.releases.linux_5_8 import LINUX_5_8
from emu.releases.linux_5_9 import LINUX_5_9
from emu.releases.linux_5_10 import LINUX_5_10
from emu.releases.linux_5_10_262 import LINUX_5_10_262
from emu.releases.linux_5_11 import LINUX_5_11
from emu.releases.linux_5_12 import LINUX_5_12
from emu.releases.linux_5_13 import LINUX_5_13
from emu.releases.linux_5_14 import LINUX_5_14
from emu.releases.linux_5_15 import LINUX_5_15
from emu.releases.linux_5_16 import LINUX_5_16
from emu.releases.linux_5_17 import LINUX_5_17
from emu.releases.linux_5_18 import LINUX_5_18
from emu.releases.linux_5_19 import LINUX_5_19
from emu.releases.linux_6_0 import LINUX_6_0
from emu.releases.linux_6_1 import LINUX_6_1
from emu.releases.linux_6_1_192 import LINUX_6_1_192
from emu.releases.linux_6_2 import LINUX_6_2
from emu.releases.linux_6_3 import LINUX_6_3
from emu.releases.linux_6_4 import LINUX_6_4
from emu.releases.linux_6_5 import LINUX_6_5
from emu.releases.linux_6_6 import LINUX_6_6
from emu.releases.linux_6_7 import LINUX_6_7
from emu.releases.linux_6_8 import LINUX_6_8
from emu.releases.linux_6_9 import LINUX_6_9
from emu.releases.linux_6_10 import LINUX_6_10
from emu.releases.linux_6_11 import LINUX_6_11
from emu.releases.linux_6_12 import LINUX_6_12
from emu.releases.linux_6_12_115 import LINUX_6_12_115
from emu.releases.linux_6_13 import LINUX_6_13
from emu.releases.linux_6_14 import LINUX_6_14
from emu.releases.linux_6_15 import LINUX_6_15
from emu.releases.linux_6_16 import LINUX_6_16
from emu.releases.linux_6_17 import LINUX_6_17
from emu.releases.linux_6_18 import LINUX_6_18
from emu.releases.linux_6_18_15 import LINUX_6_18_15
from emu.releases.linux_6_19 import LINUX_6_19
from emu.releases.linux_7_0 import LINUX_7_0
from emu.releases.linux_7_1 import LINUX_7_1
from emu.releases.linux_7_2 import LINUX_7_2
from emu.releases.linux_7_2_13 import LINUX_7_2_13
from emu.releases.linux_7_3 import LINUX_7_3
from emu.releases.schema import Release

# Oldest first; a stable tree stands behind the mainline release that it is based on.
_ORDER = (
    LINUX_4_18,
    LINUX_4_19,
    LINUX_4_20,
    LINUX_5_0,
    LINUX_5_1,
    LINUX_5_2,
    LINUX_5_3,
    LINUX_5_4,
    LINUX_5_5,
    LINUX_5_6,
    LINUX_5_7,
    LINUX_5_8,
    LINUX_5_9,
    LINUX_5_10,
    LINUX_5_10_262,
    LINUX_5_11,
    LINUX_5_12,
    LINUX_5_13,
    LINUX_5_14,
    LINUX_5_15,
    LINUX_5_16,
    LINUX_5_17,
    LINUX_5_18,
    LINUX_5_19,
    LINUX_6_0,
    LINUX_6_1,
    LINUX_6_1_192,
    LINUX_6_2,
    LINUX_6_3,
    LINUX_6_4,
    LINUX_6_5,
    LINUX_6_6,
    LINUX_6_7,
    LINUX_6_8,
    LINUX_6_9,
    LINUX_6_10,
    LINUX_6_11,
    LINUX_6_12,
    LINUX_6_12_115,
    LINUX_6_13,
    LINUX_6_14,
    LINUX_6_15,
    LINUX_6_16,
    LINUX_6_17,
    LINUX_6_18,
    LINUX_6_18_15,
    LINUX_6_19,
    LINUX_7_0,
    LINUX_7_1,
    LINUX_7_2,
    LINUX_7_2_13,
    LINUX_7_3,
)

RELEASES = MappingProxyType({kernel.name: kernel for kernel in _ORDER})


def release(name: str) -> Release:
    """The release `name`, for example ``"6.12"`` or ``"5.10.262"``.

    Raises InputError for a name that is not known, with the nearest known ones.
    """
    found = RELEASES.get(name.removeprefix("linux-").removeprefix("v"))
    if found is not None:
        return found
    series = ".".join(name.split(".")[:1])
    near = [known for known in RELEASES if known.split(".")[0] == series]
    every = f"{_ORDER[0].name} to {_ORDER[-1].name} (nestling releases lists them)"
    raise InputError(f"no release is named {name!r}; known: {', '.join(near) or every}")

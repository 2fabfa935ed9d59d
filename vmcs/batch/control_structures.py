"""VMCS and VMCB of N vCPUs, and of one: vmcs01, vmcs12, vmcs02, vmcb01, vmcb12 and vmcb02.

vmcs12 has KVM's layout, which grew over the releases. vmcs01 and vmcs02 are the processor's own:
the manual leaves their format open, so every field of the table has a place, the widest first.
"""

from collections.abc import Iterator
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vmcs.batch.layout import Place, RecordLayout
from vmcs.batch.states import StateBatch
from vmcs.batch.view import StateView
from vmcs.byte_layout import FieldAt
from vmcs.svm.vmcb import VMCB_MEMBERS, VMCB_MEMBERS_APM, VMCB_SIZE
from vmcs.vmx.fields import BY_NAME, FIELDS
from vmcs.vmx.vmcs12 import VMCS12_ADDITIONS, VMCS12_SIZE, vmcs12_rows

Bytes = NDArray[np.uint8]

VMCS_SIZE: Final = 0x1000
"""Bytes of a VMCS region: IA32_VMX_BASIC[44:32] is at most that. SDM: Basic VMX Information."""

VMCS_DATA: Final = 64
"""Where the fields begin, after the header and on a cache line of their own."""


def _vmcs_places() -> Iterator[Place]:
    # SDM: Format of the VMCS Region; the launch state is part of the data, whose format is free.
    yield Place("hdr", 0, 4)
    yield Place("abort", 4, 4)
    yield Place("launch_state", 8, 4)
    at = VMCS_DATA
    for width in (8, 4, 2):
        for field in FIELDS:
            if field.size == width:
                yield Place(field.name, at, width)
                at += width


VMCS: Final = RecordLayout("VMCS", VMCS_SIZE, _vmcs_places())
"""The emulated processor's VMCS region, for vmcs01 and vmcs02: every field of the manual."""


@cache
def vmcs12_layout(*added: str | FieldAt) -> RecordLayout:
    """Layout of vmcs12 with the given additions, by VMCS field name; see `vmcs12_rows`.

    The header members `hdr`, `abort` and `launch_state` keep their names.
    """
    return RecordLayout.of_rows(
        "vmcs12",
        VMCS12_SIZE,
        vmcs12_rows(*added),
        lambda row: row.meaning if row.meaning in BY_NAME else row.name,
    )


VMCS12: Final = vmcs12_layout(*VMCS12_ADDITIONS)
"""vmcs12 with every addition that a release has made."""

VMCB: Final = RecordLayout.of_rows("VMCB", VMCB_SIZE, VMCB_MEMBERS)
"""The VMCB as Linux 7.3 names its members."""

VMCB_APM: Final = RecordLayout.of_rows("VMCB (APM)", VMCB_SIZE, VMCB_MEMBERS_APM)
"""The VMCB with the members that only the manual names."""


class Vmcs(StateView):
    """One VMCS: `vmcs.GUEST_RIP`, `vmcs["GUEST_RIP"]`; zeros where no bytes are given."""

    __slots__ = ()

    def __init__(
        self, data: Bytes | bytearray | None = None, layout: RecordLayout = VMCS12
    ) -> None:
        super().__init__(bytearray(layout.size) if data is None else data, layout)


class Vmcb(StateView):
    """One VMCB: `vmcb.rip`, `vmcb.cs.base`, `vmcb.intercepts[3]`; zeros without bytes."""

    __slots__ = ()

    def __init__(self, data: Bytes | bytearray | None = None, layout: RecordLayout = VMCB) -> None:
        super().__init__(bytearray(layout.size) if data is None else data, layout)


class VmcsBatch(StateBatch):
    """The VMCS of N vCPUs; `batch[i]` is a `Vmcs`."""

    view = Vmcs


class VmcbBatch(StateBatch):
    """The VMCB of N vCPUs; `batch[i]` is a `Vmcb`."""

    view = Vmcb

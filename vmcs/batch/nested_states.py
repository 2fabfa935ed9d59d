"""Nested states of N vCPUs: the blobs of KVM_GET_NESTED_STATE, all in buffers of maximum size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

import numpy as np

from vmcs.batch.control_structures import VMCB, VMCS12, VmcbBatch, VmcsBatch
from vmcs.batch.layout import LayoutError, RecordLayout
from vmcs.batch.states import StateBatch
from vmcs.nested_state import (
    HEADER_ADDITIONS,
    HEADER_SIZE,
    SHADOW_VMCS12_OFFSET,
    VMCB12_OFFSET,
    VMCS12_OFFSET,
    Format,
    header_rows,
    maximum_size,
)

HEADERS: Final = {
    form: RecordLayout.of_rows(
        f"kvm_nested_state, {form.name}", HEADER_SIZE, header_rows(form, *HEADER_ADDITIONS[form])
    )
    for form in Format
}
"""The 128-byte header of each format, with every addition that a release has made."""


@cache
def nested_state_layout(
    form: Format, header: RecordLayout | None = None, structure: RecordLayout | None = None
) -> RecordLayout:
    """Layout of a whole nested state: header members, then `vmcs12.GUEST_RIP`, `vmcb12.rip`, ...

    `header` and `structure` are the layouts of one release; those with every addition by default.
    """
    head = header or HEADERS[form]
    size = maximum_size(form)
    if form is Format.SVM:
        inner = structure or VMCB
        return head.within(head.name, size, "header", vmcb12=(VMCB12_OFFSET, inner))
    inner = structure or VMCS12
    return head.within(
        head.name,
        size,
        "header",
        vmcs12=(VMCS12_OFFSET, inner),
        shadow_vmcs12=(SHADOW_VMCS12_OFFSET, inner),
    )


class NestedStateBatch(StateBatch):
    """N nested states of one format: (N, 8320) bytes for VMX, (N, 4224) for SVM.

    Columns are header members (`flags`, `size`, `vmxon_pa`, ...) and the fields of what follows
    (`vmcs12.GUEST_RIP`); `vmcs12`, `shadow_vmcs12` and `vmcb12` are batches of the same bytes.
    """

    @classmethod
    def of_states(
        cls, form: Format, states: Sequence[bytes], layout: RecordLayout | None = None
    ) -> NestedStateBatch:
        """Blobs of any legal length, each continued with zeros; LayoutError for one too long."""
        whole = layout or nested_state_layout(form)
        batch = cls(whole, len(states))
        for row, state in zip(batch.bytes, states, strict=True):
            if len(state) > whole.size:
                raise LayoutError(f"{whole.name} has {whole.size} bytes, got {len(state)}")
            row[: len(state)] = np.frombuffer(state, np.uint8)
        return batch

    def states(self) -> list[bytes]:
        """Each blob as long as its `size` word says, and never longer than its buffer."""
        sizes: Iterable[int] = self.column("size").tolist()
        return [row[:size].tobytes() for row, size in zip(self.bytes, sizes, strict=True)]

    @property
    def header(self) -> StateBatch:
        """The 128-byte headers."""
        return self.part("header", StateBatch)

    @property
    def vmcs12(self) -> VmcsBatch:
        """vmcs12 of every state; LayoutError for the format of SVM."""
        return self.part("vmcs12", VmcsBatch)

    @property
    def shadow_vmcs12(self) -> VmcsBatch:
        """The shadow vmcs12 of every state; LayoutError for the format of SVM."""
        return self.part("shadow_vmcs12", VmcsBatch)

    @property
    def vmcb12(self) -> VmcbBatch:
        """vmcb12 of every state; LayoutError for the format of VMX."""
        return self.part("vmcb12", VmcbBatch)

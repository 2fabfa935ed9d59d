"""N vCPUs at once: control structures and nested states as arrays, and what is done to all of them.

A batch is an array of bytes with a layout. It is read and written by columns, records and words:
`batch["GUEST_RIP"]`, `batch[3].GUEST_RIP`, `batch.gather(names)`. It is copied, remapped to another
layout, compared and summed by jitted loops. Field groups name what KVM moves together.
"""

from vmcs.batch.checksum import crc32c, fnv1a_64
from vmcs.batch.control_structures import (
    VMCB,
    VMCB_APM,
    VMCS,
    VMCS12,
    Vmcb,
    VmcbBatch,
    Vmcs,
    VmcsBatch,
    vmcs12_layout,
)
from vmcs.batch.groups import GROUPS, SVM_GROUPS, VMX_GROUPS, FieldGroup, group_named
from vmcs.batch.kernels import gather_row, scatter_row
from vmcs.batch.layout import LayoutError, Place, RecordLayout, UnknownFieldError
from vmcs.batch.nested_states import HEADERS, NestedStateBatch, nested_state_layout
from vmcs.batch.states import Differences, StateBatch
from vmcs.batch.view import StateView

__all__ = [
    "GROUPS",
    "HEADERS",
    "SVM_GROUPS",
    "VMCB",
    "VMCB_APM",
    "VMCS",
    "VMCS12",
    "VMX_GROUPS",
    "Differences",
    "FieldGroup",
    "LayoutError",
    "NestedStateBatch",
    "Place",
    "RecordLayout",
    "StateBatch",
    "StateView",
    "UnknownFieldError",
    "Vmcb",
    "VmcbBatch",
    "Vmcs",
    "VmcsBatch",
    "crc32c",
    "fnv1a_64",
    "gather_row",
    "group_named",
    "nested_state_layout",
    "scatter_row",
    "vmcs12_layout",
]

"""What a VMX nested state holds behind its header: the members of vmcs12, and their formats."""

from __future__ import annotations

from typing import Final

from emu.migration.decode import Words, pointer
from vmcs.vmx.field_formats import FORMATS
from vmcs.vmx.vmcs12 import VMCS12_ADDITIONS, vmcs12_rows

# Every member that any release keeps in vmcs12.
_ROWS = vmcs12_rows(*VMCS12_ADDITIONS)

WORDS: Final = Words(
    "vmx",
    _ROWS,
    {row.name: FORMATS[row.meaning] for row in _ROWS if row.meaning in FORMATS},
    {"vmcs_link_pointer": pointer},
)

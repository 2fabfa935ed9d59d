"""What an SVM nested state holds behind its header: the members of the VMCB, and their formats."""

from __future__ import annotations

from typing import Final

from emu.migration.decode import Words
from vmcs.svm import control_bits, intercepts
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.vmcb import SEGMENTS, VMCB_MEMBERS

TABLES: Final = ("gdtr", "idtr")


def _intercepts(vector: int) -> tuple[str, ...]:
    words = len(intercepts.WORDS)
    return intercepts.names_of([vector >> 32 * word & 0xFFFF_FFFF for word in range(words)])


WORDS: Final = Words(
    "svm",
    VMCB_MEMBERS,
    {
        "int_ctl": control_bits.INT_CTL,
        "int_vector": control_bits.INT_VECTOR,
        "int_state": control_bits.IntState,
        "event_inj": control_bits.EVENT_INJ,
        "exit_int_info": control_bits.EXIT_INT_INFO,
        "misc_ctl": control_bits.MiscControl,
        "misc_ctl2": control_bits.MiscControl2,
        "clean": control_bits.Clean,
        "tlb_ctl": control_bits.TlbControl,
        "erap_ctl": control_bits.ErapControl,
        "exit_code": SvmExit,
        **{
            f"{name}.attrib": control_bits.SEGMENT_ATTRIBUTES
            for name in SEGMENTS
            if name not in TABLES
        },
    },
    {"intercepts": _intercepts},
)

"""The last #VMEXIT in words, from the control area of its VMCB. APM Vol. 2, #VMEXIT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.cpu.exit_report import ExitReport
from vmcs.schema import Layout
from vmcs.svm.control_bits import EXIT_INT_INFO
from vmcs.svm.exit_codes import SvmExit, signed
from vmcs.svm.exit_info import EXIT_INFO

if TYPE_CHECKING:
    from emu.svm.extension import Svm


def exit_report(svm: Svm) -> ExitReport:
    """What the VMCB of the last VMRUN tells of its #VMEXIT."""
    block = svm.block
    code = block["exit_code"]
    vectoring = block["exit_int_info"]
    delivering = EXIT_INT_INFO.describe(vectoring) if vectoring & EXIT_INT_INFO["V"].mask else ()
    return ExitReport(
        code,
        SvmExit.name_of(code) or f"code {signed(code):#x}",
        details(code, block["exit_info_1"], block["exit_info_2"]),
        block["rip"],
        delivering=delivering,
        failed_entry=code == SvmExit.INVALID,
    )


def details(code: int, info1: int, info2: int) -> tuple[str, ...]:
    """EXITINFO1 and EXITINFO2 by field name."""
    if not SvmExit.name_of(code):
        return ()
    row = EXIT_INFO[SvmExit(code)]
    words = ((row.info1, info1), (row.info2, info2))
    return tuple(text for layout, word in words if layout for text in said(layout, word))


def said(layout: Layout, word: int) -> tuple[str, ...]:
    """A word by field name; one that is a single value by the manual's phrase."""
    first = layout.rows[0]
    return (f"{first.phrase} {word:#x}",) if first.name == "VALUE" else layout.describe(word)

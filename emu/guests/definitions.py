"""The manuals' names for the assembler: VMCS fields, controls, exit reasons, the VMCB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vmcs.schema import BitTable
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.intercepts import INTERCEPTS
from vmcs.svm.vmcb import VMCB_MEMBERS
from vmcs.vmx.controls import Entry, Exit, PinBased, ProcBased, ProcBased2
from vmcs.vmx.exit_reasons import ExitReason
from vmcs.vmx.fields import FIELDS

CONTROLS: Final[dict[str, type[BitTable]]] = {
    "PIN": PinBased,
    "PROC": ProcBased,
    "PROC2": ProcBased2,
    "VMEXIT": Exit,
    "VMENTRY": Entry,
}


def of_vmx() -> Iterator[tuple[str, int]]:
    """Field encodings by name, ``PROC_HLT_EXITING`` and its like, ``EXIT_`` reasons."""
    for field in FIELDS:
        yield field.name, field.encoding
    for prefix, table in CONTROLS.items():
        for control in table:
            yield f"{prefix}_{control.name}", int(control)
    for reason in ExitReason:
        yield f"EXIT_{reason.name}", int(reason)


def of_svm() -> Iterator[tuple[str, int]]:
    """``VMCB_`` offsets, ``INTERCEPT_`` bit numbers in the whole vector, ``EXIT_`` codes."""
    for member in VMCB_MEMBERS:
        yield f"VMCB_{member.name.replace('.', '_').upper()}", member.offset
    for intercept in INTERCEPTS:
        yield f"INTERCEPT_{intercept.name}", intercept.position
    for reason in SvmExit:
        yield f"EXIT_{reason.name}", int(reason)


OF_VENDOR: Final = {"vmx": of_vmx, "svm": of_svm}


def text(vendor: str) -> str:
    """Assembler directives that define the names of `vendor`, ``vmx`` or ``svm``."""
    return "".join(f".set {name}, {value:#x}\n" for name, value in OF_VENDOR[vendor]())

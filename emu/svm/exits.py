"""What a #VMEXIT tells: code, EXITINFO1 and EXITINFO2, and how they are put together.

APM Vol. 2, #VMEXIT, and the section of each intercept; the layouts are in `vmcs.svm.exit_info`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from iced_x86 import OpKind

from emu.cpu.guest_mode import Event, EventKind, PortAccess, SecondLevelFault
from emu.cpu.registers import REGISTERS
from emu.cpu.second_level import FETCH, IN_WALK, NPT_P, RESERVED, WRITE
from vmcs.svm.control_bits import EXIT_INT_INFO
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.exit_info import IOIO, MOV_CR, NESTED_PAGE_FAULT, SAVES_NEXT_RIP, TASK_SWITCH

SAVING_NEXT_RIP: Final = frozenset(int(code) for code in SAVES_NEXT_RIP)
DURING_DELIVERY: Final = frozenset(
    (int(SvmExit.NPF), int(SvmExit.TASK_SWITCH), *range(SvmExit.EXCP_DE, SvmExit.INTR))
)
"""Exits that can come up while an event is delivered. APM: Intercepts During IDT Delivery."""

IOIO_SIZES: Final = {size: IOIO[f"SZ{8 * size}"].mask for size in (1, 2, 4)}
IOIO_WIDTHS: Final = {width: IOIO[f"A{width}"].mask for width in (16, 32, 64)}


class Exit(NamedTuple):
    """Why a guest is left."""

    code: int
    info1: int = 0
    info2: int = 0


def general_register(insn: Any) -> int:
    """The number of the general register of MOV to or from a control or debug register."""
    for position in range(insn.op_count):
        if insn.op_kind(position) == OpKind.REGISTER:
            operand = REGISTERS[insn.op_register(position)]
            if operand.letter == "R":
                return int(operand.number)
    return 0


def mov_cr(insn: Any) -> int:
    """EXITINFO1 of MOV CRx."""
    return MOV_CR["MOV_CR"].mask | general_register(insn)


def port_access(access: PortAccess) -> int:
    """EXITINFO1 of IN, OUT, INS, OUTS."""
    info = access.port << IOIO["PORT"].low | IOIO_SIZES[access.size]
    info |= IOIO["TYPE"].mask if access.reads else 0
    if access.string:
        info |= IOIO["STR"].mask | IOIO_WIDTHS[access.width] | access.seg << IOIO["SEG"].low
        info |= IOIO["REP"].mask if access.repeats else 0
    return info


def task_switch(how: str, event: Event | None, resume_flag: int) -> int:
    """EXITINFO2 of a task switch: what caused it, and the error code for the new task."""
    info = {"JMP": TASK_SWITCH["FAR_JUMP"].mask, "IRET": TASK_SWITCH["IRET"].mask}.get(how, 0)
    if event is not None and event.error is not None:
        info |= TASK_SWITCH["EV"].mask | event.error
    return info | (TASK_SWITCH["RF"].mask if resume_flag else 0)


def nested_page_fault(fault: SecondLevelFault, fetch_told: bool) -> int:
    """EXITINFO1 of a nested page fault; a fetch is told with EFER.NXE or CR4.SMEP of the host."""
    bits = NESTED_PAGE_FAULT
    info = bits["US"].mask
    info |= bits["P"].mask if fault.rights & NPT_P else 0
    info |= bits["RSV"].mask if fault.kind == RESERVED else 0
    if fault.access & IN_WALK:
        return info | bits["RW"].mask | bits["TABLE"].mask
    info |= bits["RW"].mask if fault.access & WRITE else 0
    info |= bits["ID"].mask if fault.access & FETCH and fetch_told else 0
    return info | bits["FINAL"].mask


def interrupted(event: Event) -> int:
    """EXITINTINFO with its error code: the event in whose delivery the intercept came up."""
    # INT1, INT3 and INTO count as exceptions
    kind = EventKind.HARDWARE if event.kind > EventKind.SOFTWARE else event.kind
    info = EXIT_INT_INFO["V"].mask | EXIT_INT_INFO["TYPE"].placed(kind) | event.vector
    if event.error is None:
        return info
    return info | EXIT_INT_INFO["EV"].mask | event.error << 32

"""What EXITINFO1 and EXITINFO2 hold for each #VMEXIT code.

A row of `EXIT_INFO` names an exit code and the layouts of the two words; a word without layout is
undefined for that code. `saves_next_rip` says whether the exit also reports nRIP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from vmcs.schema import Cited, Layout, bit, bits, check_cited, check_unique, gap
from vmcs.svm.exit_codes import SvmExit


def _whole(name: str, phrase: str, section: str) -> Layout:
    return Layout(name, 64, bits("VALUE", 0, 63, phrase), apm=section)


MOV_CR = Layout(
    "EXITINFO1 of MOV CRx",
    64,
    bits("GPR", 0, 3, "GPR number"),
    gap(4, 62),
    bit("MOV_CR", 63, "Instruction was MOV CRx; clear for LMSW, SMSW and CLTS"),
    apm="MOV CRx/DRx Intercepts",
)
MOV_DR = Layout(
    "EXITINFO1 of MOV DRx",
    64,
    bits("GPR", 0, 3, "GPR number"),
    gap(4, 63),
    apm="MOV CRx/DRx Intercepts",
)
ERROR_CODE = Layout(
    "EXITINFO1 of an exception",
    64,
    bits("ERROR_CODE", 0, 31, "Error code that the exception would push"),
    gap(32, 63),
    apm="Exception Intercepts",
)
PAGE_FAULT = Layout(
    "EXITINFO1 of #PF",
    64,
    bit("P", 0, "Page was present"),
    bit("RW", 1, "Access was a write"),
    bit("US", 2, "Access was a user access"),
    bit("RSV", 3, "Reserved bit was set in a page table entry"),
    bit("ID", 4, "Access was an instruction fetch"),
    bit("PK", 5, "Protection key violation"),
    bit("SS", 6, "Access was a shadow-stack access"),
    gap(7, 30),
    bit("RMP", 31, "RMP or VMPL check failed", apm="RMP and VMPL Access Checks"),
    gap(32, 63),
    apm="Page-Fault Error Code",
)
NESTED_PAGE_FAULT = Layout(
    "EXITINFO1 of NPF",
    64,
    bit("P", 0, "Nested page was present"),
    bit("RW", 1, "Nested page table level access was a write"),
    bit("US", 2, "Nested page table level access was a user access"),
    bit("RSV", 3, "Reserved bits were set in the nested page table entry"),
    bit("ID", 4, "Nested page table level access was a code read"),
    gap(5),
    bit("SS", 6, "Fault was caused by a shadow-stack access"),
    gap(7, 30),
    bit("RMP", 31, "RMP or VMPL check failed", apm="RMP and VMPL Access Checks"),
    bit("FINAL", 32, "Fault while translating the guest's final physical address"),
    bit("TABLE", 33, "Fault while translating the guest page tables"),
    bit("ENC", 34, "Guest's effective C-bit was 1", apm="RMP and VMPL Access Checks"),
    bit("SIZEM", 35, "Size mismatch of PVALIDATE or RMPADJUST", apm="RMP and VMPL Access Checks"),
    bit("VMPL", 36, "VMPL permission check failed", apm="RMP and VMPL Access Checks"),
    bit("SSS", 37, "Page was a supervisor shadow-stack page"),
    gap(38, 62),
    bit("NOT_RESTARTABLE", 63, "Access to the guest APIC backing page", apm="Secure AVIC"),
    apm="Nested versus Guest Page Faults, Fault Ordering",
)
IOIO = Layout(
    "EXITINFO1 of IOIO",
    64,
    bit("TYPE", 0, "Access type: 1 for IN, 0 for OUT"),
    gap(1),
    bit("STR", 2, "String based port access (INS, OUTS)"),
    bit("REP", 3, "Repeated port access"),
    bit("SZ8", 4, "8-bit operand size"),
    bit("SZ16", 5, "16-bit operand size"),
    bit("SZ32", 6, "32-bit operand size"),
    bit("A16", 7, "16-bit address"),
    bit("A32", 8, "32-bit address"),
    bit("A64", 9, "64-bit address"),
    bits("SEG", 10, 12, "Effective segment number"),
    gap(13, 15),
    bits("PORT", 16, 31, "Intercepted I/O port"),
    gap(32, 63),
    apm="IN and OUT Behavior",
)
SMI = Layout(
    "EXITINFO1 of SMI",
    64,
    bit("SMISRC", 0, "SMI source: 0 internal, 1 external"),
    bit("MCREDIR", 1, "SMI is due to a redirected machine-check error"),
    gap(2, 9),
    bits("SEG", 10, 12, "Effective segment number"),
    gap(13, 31),
    bit("TYPE", 32, "Access type: 1 for IN, 0 for OUT"),
    bit("VAL", 33, "SMI was detected during an I/O instruction"),
    bit("STR", 34, "String based port access (INS, OUTS)"),
    bit("REP", 35, "Repeated port access"),
    bit("SZ8", 36, "8-bit operand size"),
    bit("SZ16", 37, "16-bit operand size"),
    bit("SZ32", 38, "32-bit operand size"),
    bit("A16", 39, "16-bit address"),
    bit("A32", 40, "32-bit address"),
    bit("A64", 41, "64-bit address"),
    gap(42),
    bit("TF", 43, "EFLAGS.TF"),
    bits("BRP", 44, 47, "I/O breakpoint matches"),
    bits("PORT", 48, 63, "Intercepted I/O port"),
    apm="SMI Intercept",
)
SOFTWARE_INTERRUPT = Layout(
    "EXITINFO1 of INTn",
    64,
    bits("VECTOR", 0, 7, "Software interrupt number"),
    gap(8, 63),
    apm="INTn Intercepts",
)
MSR_ACCESS = Layout(
    "EXITINFO1 of MSR",
    64,
    bit("WRMSR", 0, "Instruction was WRMSR; clear for RDMSR"),
    gap(1, 63),
    apm="MSR Intercepts",
)
TASK_SELECTOR = Layout(
    "EXITINFO1 of TASK_SWITCH",
    64,
    bits("SELECTOR", 0, 15, "Segment selector of the incoming TSS"),
    gap(16, 63),
    apm="Task Switch Intercept",
)
TASK_SWITCH = Layout(
    "EXITINFO2 of TASK_SWITCH",
    64,
    bits("ERROR_CODE", 0, 31, "Error code to push in the new task, if applicable"),
    gap(32, 35),
    bit("IRET", 36, "Task switch was caused by an IRET"),
    gap(37),
    bit("FAR_JUMP", 38, "Task switch was caused by a far jump"),
    gap(39, 43),
    bit("EV", 44, "Task switch has an error code"),
    gap(45, 47),
    bit("RF", 48, "EFLAGS.RF that would be saved in the outgoing TSS"),
    gap(49, 63),
    apm="Task Switch Intercept",
)
AVIC_ICR = Layout(
    "EXITINFO1 of AVIC_INCOMPLETE_IPI",
    64,
    bits("ICRL", 0, 31, "Value written to the vAPIC ICRL register"),
    bits("ICRH", 32, 63, "Value written to the vAPIC ICRH register"),
    apm="AVIC IPI Delivery Not Completed",
)
AVIC_IPI_FAILURE = Layout(
    "EXITINFO2 of AVIC_INCOMPLETE_IPI",
    64,
    bits("INDEX", 0, 11, "Index of the logical or physical table entry, for IDs 1 to 3"),
    gap(12, 31),
    bits(
        "ID",
        32,
        63,
        "Reason of the failure",
        {
            0: "INVALID_INTERRUPT_TYPE",
            1: "IPI_TARGET_NOT_RUNNING",
            2: "INVALID_TARGET_IN_IPI",
            3: "INVALID_BACKING_PAGE_POINTER",
            4: "INVALID_IPI_VECTOR",
            5: "UNACCELERATED_IPI",
        },
    ),
    apm="AVIC IPI Delivery Not Completed",
)
AVIC_OFFSET = Layout(
    "EXITINFO1 of AVIC_NOACCEL",
    64,
    gap(0, 3),
    bits("APIC_OFFSET", 4, 11, "Bits 11:4 of the offset within the vAPIC backing page"),
    gap(12, 31),
    bit("WRITE", 32, "Write was attempted; clear for a read"),
    gap(33, 63),
    apm="AVIC Access to Un-accelerated vAPIC Register",
)
AVIC_EOI = Layout(
    "EXITINFO2 of AVIC_NOACCEL",
    64,
    bits("VECTOR", 0, 7, "Vector for attempted EOI, otherwise undefined"),
    gap(8, 63),
    apm="AVIC Access to Un-accelerated vAPIC Register",
)
FAULTING_ADDRESS = _whole("EXITINFO2 of #PF", "Faulting address (CR2)", "#PF (Page Fault)")
GUEST_PHYSICAL_ADDRESS = _whole(
    "EXITINFO2 of NPF",
    "Guest physical address that faulted",
    "Nested versus Guest Page Faults, Fault Ordering",
)
FOLLOWING_RIP = _whole("EXITINFO2 of IOIO", "rIP after the IN or OUT", "IN and OUT Behavior")
SMI_RIP = _whole(
    "EXITINFO2 of SMI", "rIP of the I/O instruction, where VAL is set", "SMI Intercept"
)
LINEAR_ADDRESS = _whole("EXITINFO1 of INVLPG", "Linear address", "INVLPG and INVLPGA Intercepts")
WRITTEN_VALUE = _whole(
    "EXITINFO1 of a write trap", "New value of the control register", "Control Register Write Traps"
)
ZERO = Layout("EXITINFO of BUSLOCK", 64, gap(0, 63), apm="Bus Lock Threshold")


@dataclass(frozen=True)
class ExitInfo(Cited):
    """Layouts of EXITINFO1 and EXITINFO2 for one exit code, as a row; None is undefined."""

    exit: SvmExit
    info1: Layout | None = None
    info2: Layout | None = None
    saves_next_rip: bool = False

    def decode(self, info1: int, info2: int) -> dict[str, int]:
        """Named fields of both words; those of EXITINFO2 follow those of EXITINFO1."""
        words = ((self.info1, info1), (self.info2, info2))
        return {
            f"{place}.{name}": value
            for place, (layout, word) in zip(("EXITINFO1", "EXITINFO2"), words, strict=True)
            if layout is not None
            for name, value in layout.decode(word).items()
        }


def _exits(*names: str) -> tuple[SvmExit, ...]:
    return tuple(SvmExit[name] for name in names)


def _span(first: SvmExit, last: SvmExit) -> tuple[SvmExit, ...]:
    return tuple(exit_code for exit_code in SvmExit if first <= exit_code <= last)


_CR_READS = _span(SvmExit.CR0_READ, SvmExit.CR15_READ)
_CR_WRITES = _span(SvmExit.CR0_WRITE, SvmExit.CR15_WRITE)
_DR_READS = _span(SvmExit.DR0_READ, SvmExit.DR15_READ)
_DR_WRITES = _span(SvmExit.DR0_WRITE, SvmExit.DR15_WRITE)
_WITH_ERROR_CODE = _exits("EXCP_NP", "EXCP_SS", "EXCP_GP", "EXCP_AC", "EXCP_CP", "EXCP_SX")
_TRAPS = _span(SvmExit.EFER_WRITE_TRAP, SvmExit.CR15_WRITE_TRAP)

_DEFINED: tuple[tuple[tuple[SvmExit, ...], Layout | None, Layout | None], ...] = (
    (_CR_READS, MOV_CR, None),
    (_CR_WRITES, MOV_CR, None),
    (_DR_READS, MOV_DR, None),
    (_DR_WRITES, MOV_DR, None),
    (_WITH_ERROR_CODE, ERROR_CODE, None),
    (_exits("EXCP_PF"), PAGE_FAULT, FAULTING_ADDRESS),
    (_exits("SMI"), SMI, SMI_RIP),
    (_exits("CR0_SEL_WRITE"), MOV_CR, None),
    (_exits("SWINT"), SOFTWARE_INTERRUPT, None),
    (_exits("INVLPG"), LINEAR_ADDRESS, None),
    (_exits("IOIO"), IOIO, FOLLOWING_RIP),
    (_exits("MSR"), MSR_ACCESS, None),
    (_exits("TASK_SWITCH"), TASK_SELECTOR, TASK_SWITCH),
    (_TRAPS, WRITTEN_VALUE, None),
    (_exits("BUSLOCK"), ZERO, ZERO),
    (_exits("NPF"), NESTED_PAGE_FAULT, GUEST_PHYSICAL_ADDRESS),
    (_exits("AVIC_INCOMPLETE_IPI"), AVIC_ICR, AVIC_IPI_FAILURE),
    (_exits("AVIC_NOACCEL"), AVIC_OFFSET, AVIC_EOI),
)

SAVES_NEXT_RIP = frozenset(
    (
        *_span(SvmExit.CR0_READ, SvmExit.DR15_WRITE),
        *_exits("EXCP_BP", "EXCP_OF", "EXCP_BR"),
        *_span(SvmExit.CR0_SEL_WRITE, SvmExit.MSR),
        *_span(SvmExit.VMRUN, SvmExit.RDPRU),
        *_span(SvmExit.INVLPGB, SvmExit.TLBSYNC),
        SvmExit.IDLE_HLT,
    )
)
"""Exits that report nRIP: instruction intercepts, INT3, INTO, BOUND. APM: State Saved on Exit."""


def _rows() -> Iterator[ExitInfo]:
    layouts = {code: (one, two) for codes, one, two in _DEFINED for code in codes}
    for exit_code in SvmExit:
        one, two = layouts.get(exit_code, (None, None))
        section = one.rows[0].apm if one is not None else "#VMEXIT"
        yield ExitInfo(exit_code, one, two, exit_code in SAVES_NEXT_RIP, apm=section)


EXIT_INFO = MappingProxyType({row.exit: row for row in _rows()})
"""The row of every exit code."""

check_cited(EXIT_INFO.values(), "EXIT_INFO")
check_unique([code for codes, _, _ in _DEFINED for code in codes], "EXIT_INFO")

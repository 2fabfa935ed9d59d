"""The intercept vectors of the VMCB: which instructions and events leave a guest.

Six 32-bit words at VMCB offset 000h hold one bit an intercept. A bit's place in the whole vector,
``word * 32 + bit``, is also the number of the #VMEXIT that it causes (`vmcs.svm.exit_codes`).
Kernel macros are those of ``arch/x86/include/asm/svm.h`` and, for vectors, ``uapi/asm/kvm.h``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vmcs.schema import BitTable, Cited, check_unique, flag, reserved
from vmcs.svm.vmcb import CONTROL_AREA


class CrIntercept(BitTable, width=32, apm=CONTROL_AREA, macros="INTERCEPT_"):
    """Word 0, VMCB offset 000h: reads and writes of control registers."""

    CR0_READ = flag(0, "Intercept reads of CR0", "CR0_READ")
    CR1_READ = flag(1, "Intercept reads of CR1")
    CR2_READ = flag(2, "Intercept reads of CR2")
    CR3_READ = flag(3, "Intercept reads of CR3", "CR3_READ")
    CR4_READ = flag(4, "Intercept reads of CR4", "CR4_READ")
    CR5_READ = flag(5, "Intercept reads of CR5")
    CR6_READ = flag(6, "Intercept reads of CR6")
    CR7_READ = flag(7, "Intercept reads of CR7")
    CR8_READ = flag(8, "Intercept reads of CR8", "CR8_READ")
    CR9_READ = flag(9, "Intercept reads of CR9")
    CR10_READ = flag(10, "Intercept reads of CR10")
    CR11_READ = flag(11, "Intercept reads of CR11")
    CR12_READ = flag(12, "Intercept reads of CR12")
    CR13_READ = flag(13, "Intercept reads of CR13")
    CR14_READ = flag(14, "Intercept reads of CR14")
    CR15_READ = flag(15, "Intercept reads of CR15")
    CR0_WRITE = flag(16, "Intercept writes of CR0", "CR0_WRITE")
    CR1_WRITE = flag(17, "Intercept writes of CR1")
    CR2_WRITE = flag(18, "Intercept writes of CR2")
    CR3_WRITE = flag(19, "Intercept writes of CR3", "CR3_WRITE")
    CR4_WRITE = flag(20, "Intercept writes of CR4", "CR4_WRITE")
    CR5_WRITE = flag(21, "Intercept writes of CR5")
    CR6_WRITE = flag(22, "Intercept writes of CR6")
    CR7_WRITE = flag(23, "Intercept writes of CR7")
    CR8_WRITE = flag(24, "Intercept writes of CR8", "CR8_WRITE")
    CR9_WRITE = flag(25, "Intercept writes of CR9")
    CR10_WRITE = flag(26, "Intercept writes of CR10")
    CR11_WRITE = flag(27, "Intercept writes of CR11")
    CR12_WRITE = flag(28, "Intercept writes of CR12")
    CR13_WRITE = flag(29, "Intercept writes of CR13")
    CR14_WRITE = flag(30, "Intercept writes of CR14")
    CR15_WRITE = flag(31, "Intercept writes of CR15")


class DrIntercept(BitTable, width=32, apm=CONTROL_AREA, macros="INTERCEPT_"):
    """Word 1, VMCB offset 004h: reads and writes of debug registers."""

    DR0_READ = flag(0, "Intercept reads of DR0", "DR0_READ")
    DR1_READ = flag(1, "Intercept reads of DR1", "DR1_READ")
    DR2_READ = flag(2, "Intercept reads of DR2", "DR2_READ")
    DR3_READ = flag(3, "Intercept reads of DR3", "DR3_READ")
    DR4_READ = flag(4, "Intercept reads of DR4", "DR4_READ")
    DR5_READ = flag(5, "Intercept reads of DR5", "DR5_READ")
    DR6_READ = flag(6, "Intercept reads of DR6", "DR6_READ")
    DR7_READ = flag(7, "Intercept reads of DR7", "DR7_READ")
    DR8_READ = flag(8, "Intercept reads of DR8")
    DR9_READ = flag(9, "Intercept reads of DR9")
    DR10_READ = flag(10, "Intercept reads of DR10")
    DR11_READ = flag(11, "Intercept reads of DR11")
    DR12_READ = flag(12, "Intercept reads of DR12")
    DR13_READ = flag(13, "Intercept reads of DR13")
    DR14_READ = flag(14, "Intercept reads of DR14")
    DR15_READ = flag(15, "Intercept reads of DR15")
    DR0_WRITE = flag(16, "Intercept writes of DR0", "DR0_WRITE")
    DR1_WRITE = flag(17, "Intercept writes of DR1", "DR1_WRITE")
    DR2_WRITE = flag(18, "Intercept writes of DR2", "DR2_WRITE")
    DR3_WRITE = flag(19, "Intercept writes of DR3", "DR3_WRITE")
    DR4_WRITE = flag(20, "Intercept writes of DR4", "DR4_WRITE")
    DR5_WRITE = flag(21, "Intercept writes of DR5", "DR5_WRITE")
    DR6_WRITE = flag(22, "Intercept writes of DR6", "DR6_WRITE")
    DR7_WRITE = flag(23, "Intercept writes of DR7", "DR7_WRITE")
    DR8_WRITE = flag(24, "Intercept writes of DR8")
    DR9_WRITE = flag(25, "Intercept writes of DR9")
    DR10_WRITE = flag(26, "Intercept writes of DR10")
    DR11_WRITE = flag(27, "Intercept writes of DR11")
    DR12_WRITE = flag(28, "Intercept writes of DR12")
    DR13_WRITE = flag(29, "Intercept writes of DR13")
    DR14_WRITE = flag(30, "Intercept writes of DR14")
    DR15_WRITE = flag(31, "Intercept writes of DR15")


class ExceptionIntercept(BitTable, width=32, apm=CONTROL_AREA):
    """Word 2, VMCB offset 008h: exception vectors 0 to 31; a bit a vector."""

    DE = flag(0, "#DE, Divide-by-Zero-Error exception", "DE_VECTOR")
    DB = flag(1, "#DB, Debug exception", "DB_VECTOR")
    RESERVED_2 = reserved(2)
    BP = flag(3, "#BP, Breakpoint exception", "BP_VECTOR")
    OF = flag(4, "#OF, Overflow exception", "OF_VECTOR")
    BR = flag(5, "#BR, Bound-Range exception", "BR_VECTOR")
    UD = flag(6, "#UD, Invalid-Opcode exception", "UD_VECTOR")
    NM = flag(7, "#NM, Device-Not-Available exception", "NM_VECTOR")
    DF = flag(8, "#DF, Double-Fault exception", "DF_VECTOR")
    RESERVED_9 = reserved(9)
    TS = flag(10, "#TS, Invalid-TSS exception", "TS_VECTOR")
    NP = flag(11, "#NP, Segment-Not-Present exception", "NP_VECTOR")
    SS = flag(12, "#SS, Stack exception", "SS_VECTOR")
    GP = flag(13, "#GP, General-Protection exception", "GP_VECTOR")
    PF = flag(14, "#PF, Page-Fault exception", "PF_VECTOR")
    RESERVED_15 = reserved(15)
    MF = flag(16, "#MF, x87 Floating-Point Exception-Pending exception", "MF_VECTOR")
    AC = flag(17, "#AC, Alignment-Check exception", "AC_VECTOR")
    MC = flag(18, "#MC, Machine-Check exception", "MC_VECTOR")
    XF = flag(19, "#XF, SIMD Floating-Point exception", "XM_VECTOR")
    RESERVED_20 = reserved(20)
    CP = flag(21, "#CP, Control-Protection exception", "CP_VECTOR")
    RESERVED_22_27 = reserved(22, 27)
    HV = flag(28, "#HV, Hypervisor Injection exception", "HV_VECTOR")
    VC = flag(29, "#VC, VMM Communication exception", "VC_VECTOR")
    SX = flag(30, "#SX, Security exception", "SX_VECTOR")
    RESERVED_31 = reserved(31)


class InterceptWord3(BitTable, width=32, apm=CONTROL_AREA, macros="INTERCEPT_"):
    """Word 3, VMCB offset 00Ch: events, descriptor tables and instructions."""

    INTR = flag(0, "Intercept INTR (physical maskable interrupt)", "INTR")
    NMI = flag(1, "Intercept NMI", "NMI")
    SMI = flag(2, "Intercept SMI", "SMI")
    INIT = flag(3, "Intercept INIT", "INIT")
    VINTR = flag(4, "Intercept VINTR (virtual maskable interrupt)", "VINTR")
    SELECTIVE_CR0 = flag(5, "CR0 writes that change bits other than TS or MP", "SELECTIVE_CR0")
    STORE_IDTR = flag(6, "Intercept reads of IDTR", "STORE_IDTR")
    STORE_GDTR = flag(7, "Intercept reads of GDTR", "STORE_GDTR")
    STORE_LDTR = flag(8, "Intercept reads of LDTR", "STORE_LDTR")
    STORE_TR = flag(9, "Intercept reads of TR", "STORE_TR")
    LOAD_IDTR = flag(10, "Intercept writes of IDTR", "LOAD_IDTR")
    LOAD_GDTR = flag(11, "Intercept writes of GDTR", "LOAD_GDTR")
    LOAD_LDTR = flag(12, "Intercept writes of LDTR", "LOAD_LDTR")
    LOAD_TR = flag(13, "Intercept writes of TR", "LOAD_TR")
    RDTSC = flag(14, "Intercept RDTSC instruction", "RDTSC")
    RDPMC = flag(15, "Intercept RDPMC instruction", "RDPMC")
    PUSHF = flag(16, "Intercept PUSHF instruction", "PUSHF")
    POPF = flag(17, "Intercept POPF instruction", "POPF")
    CPUID = flag(18, "Intercept CPUID instruction", "CPUID")
    RSM = flag(19, "Intercept RSM instruction", "RSM")
    IRET = flag(20, "Intercept IRET instruction", "IRET")
    INTN = flag(21, "Intercept INTn instruction", "INTn")
    INVD = flag(22, "Intercept INVD instruction", "INVD")
    PAUSE = flag(23, "Intercept PAUSE instruction", "PAUSE")
    HLT = flag(24, "Intercept HLT instruction", "HLT")
    INVLPG = flag(25, "Intercept INVLPG instruction", "INVLPG")
    INVLPGA = flag(26, "Intercept INVLPGA instruction", "INVLPGA")
    IOIO_PROT = flag(27, "Intercept IN/OUT accesses to selected ports", "IOIO_PROT")
    MSR_PROT = flag(28, "Intercept RDMSR or WRMSR accesses to selected MSRs", "MSR_PROT")
    TASK_SWITCH = flag(29, "Intercept task switches", "TASK_SWITCH")
    FERR_FREEZE = flag(30, "Intercept processor freezing in legacy FERR handling", "FERR_FREEZE")
    SHUTDOWN = flag(31, "Intercept shutdown events", "SHUTDOWN")


class InterceptWord4(BitTable, width=32, apm=CONTROL_AREA):
    """Word 4, VMCB offset 010h: SVM and other instructions, control register write traps."""

    VMRUN = flag(0, "Intercept VMRUN instruction", "INTERCEPT_VMRUN")
    VMMCALL = flag(1, "Intercept VMMCALL instruction", "INTERCEPT_VMMCALL")
    VMLOAD = flag(2, "Intercept VMLOAD instruction", "INTERCEPT_VMLOAD")
    VMSAVE = flag(3, "Intercept VMSAVE instruction", "INTERCEPT_VMSAVE")
    STGI = flag(4, "Intercept STGI instruction", "INTERCEPT_STGI")
    CLGI = flag(5, "Intercept CLGI instruction", "INTERCEPT_CLGI")
    SKINIT = flag(6, "Intercept SKINIT instruction", "INTERCEPT_SKINIT")
    RDTSCP = flag(7, "Intercept RDTSCP instruction", "INTERCEPT_RDTSCP")
    ICEBP = flag(8, "Intercept ICEBP instruction", "INTERCEPT_ICEBP")
    WBINVD = flag(9, "Intercept WBINVD and WBNOINVD instructions", "INTERCEPT_WBINVD")
    MONITOR = flag(10, "Intercept MONITOR/MONITORX instruction", "INTERCEPT_MONITOR")
    MWAIT = flag(11, "Intercept MWAIT/MWAITX unconditionally", "INTERCEPT_MWAIT")
    MWAIT_COND = flag(12, "Intercept MWAIT/MWAITX, monitor hardware armed", "INTERCEPT_MWAIT_COND")
    XSETBV = flag(13, "Intercept XSETBV instruction", "INTERCEPT_XSETBV")
    RDPRU = flag(14, "Intercept RDPRU instruction", "INTERCEPT_RDPRU")
    EFER_WRITE_TRAP = flag(15, "Intercept writes of EFER (after instruction)", "TRAP_EFER_WRITE")
    CR0_WRITE_TRAP = flag(16, "Intercept writes of CR0 (after instruction)", "TRAP_CR0_WRITE")
    CR1_WRITE_TRAP = flag(17, "Intercept writes of CR1 (after instruction)", "TRAP_CR1_WRITE")
    CR2_WRITE_TRAP = flag(18, "Intercept writes of CR2 (after instruction)", "TRAP_CR2_WRITE")
    CR3_WRITE_TRAP = flag(19, "Intercept writes of CR3 (after instruction)", "TRAP_CR3_WRITE")
    CR4_WRITE_TRAP = flag(20, "Intercept writes of CR4 (after instruction)", "TRAP_CR4_WRITE")
    CR5_WRITE_TRAP = flag(21, "Intercept writes of CR5 (after instruction)", "TRAP_CR5_WRITE")
    CR6_WRITE_TRAP = flag(22, "Intercept writes of CR6 (after instruction)", "TRAP_CR6_WRITE")
    CR7_WRITE_TRAP = flag(23, "Intercept writes of CR7 (after instruction)", "TRAP_CR7_WRITE")
    CR8_WRITE_TRAP = flag(24, "Intercept writes of CR8 (after instruction)", "TRAP_CR8_WRITE")
    CR9_WRITE_TRAP = flag(25, "Intercept writes of CR9 (after instruction)")
    CR10_WRITE_TRAP = flag(26, "Intercept writes of CR10 (after instruction)")
    CR11_WRITE_TRAP = flag(27, "Intercept writes of CR11 (after instruction)")
    CR12_WRITE_TRAP = flag(28, "Intercept writes of CR12 (after instruction)")
    CR13_WRITE_TRAP = flag(29, "Intercept writes of CR13 (after instruction)")
    CR14_WRITE_TRAP = flag(30, "Intercept writes of CR14 (after instruction)")
    CR15_WRITE_TRAP = flag(31, "Intercept writes of CR15 (after instruction)")


class InterceptWord5(BitTable, width=32, apm=CONTROL_AREA, macros="INTERCEPT_"):
    """Word 5, VMCB offset 014h: instructions and events that later processors added."""

    INVLPGB = flag(0, "Intercept all INVLPGB instructions", "INVLPGB")
    INVLPGB_ILLEGAL = flag(1, "Intercept only illegally specified INVLPGB", "INVLPGB_ILLEGAL")
    INVPCID = flag(2, "Intercept INVPCID instruction", "INVPCID")
    MCOMMIT = flag(3, "Intercept MCOMMIT instruction", "MCOMMIT")
    TLBSYNC = flag(4, "Intercept TLBSYNC instruction", "TLBSYNC")
    BUSLOCK = flag(5, "Intercept bus locks when the Bus Lock Threshold Counter is 0", "BUSLOCK")
    IDLE_HLT = flag(6, "Intercept HLT if a virtual interrupt is not pending", "IDLE_HLT")
    RESERVED_7_31 = reserved(7, 31)


WORDS: tuple[type[BitTable], ...] = (
    CrIntercept,
    DrIntercept,
    ExceptionIntercept,
    InterceptWord3,
    InterceptWord4,
    InterceptWord5,
)
"""The intercept words in the order in which they lie in the VMCB."""

WORD_BITS = 32
"""Bits in an intercept word."""


@dataclass(frozen=True)
class Intercept(Cited):
    """One intercept of the whole vector, as a row; exceptions are named ``EXCP_`` and mnemonic."""

    name: str
    word: int
    bit: int
    phrase: str
    macro: str = ""

    @property
    def position(self) -> int:
        """The bit's place in the whole vector, which is the number of the exit that it causes."""
        return self.word * WORD_BITS + self.bit

    @property
    def mask(self) -> int:
        """The intercept word with this bit alone."""
        return 1 << self.bit

    def is_set(self, words: Sequence[int]) -> bool:
        """Whether the six `words` of a vector have this intercept set."""
        return bool(int(words[self.word]) >> self.bit & 1)


def _rows() -> Iterator[Intercept]:
    for word, table in enumerate(WORDS):
        prefix = "EXCP_" if table is ExceptionIntercept else ""
        for row in table.table:
            if not row.reserved:
                yield Intercept(
                    prefix + row.name, word, row.bit, row.phrase, row.macro, apm=row.apm
                )


INTERCEPTS = tuple(_rows())
"""Every defined intercept, in vector order."""

check_unique([row.name for row in INTERCEPTS], "INTERCEPTS")
_BY_NAME = {row.name: row for row in INTERCEPTS}


def intercept(name: str) -> Intercept:
    """The intercept called `name`, e.g. ``VMRUN`` or ``EXCP_PF``; raises `KeyError`."""
    return _BY_NAME[name]


def vector_of(names: Iterable[str]) -> tuple[int, ...]:
    """The six words of a vector with the named intercepts set; raises `KeyError`."""
    words = [0] * len(WORDS)
    for name in names:
        row = intercept(name)
        words[row.word] |= row.mask
    return tuple(words)


def names_of(words: Sequence[int]) -> tuple[str, ...]:
    """Names of the defined intercepts that are set in the six `words` of a vector."""
    return tuple(row.name for row in INTERCEPTS if row.is_set(words))

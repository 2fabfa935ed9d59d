"""CPUID as KVM passes it about: rows of a leaf and its four registers, and features by name."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vmcs.schema import check_unique

EAX, EBX, ECX, EDX = range(4)


class CpuidRow(NamedTuple):
    """One `struct kvm_cpuid_entry2`: a leaf (function, subleaf) and its registers."""

    function: int
    subleaf: int
    eax: int
    ebx: int
    ecx: int
    edx: int

    def register(self, number: int) -> int:
        """Register `number`: EAX 0, EBX 1, ECX 2, EDX 3."""
        return self[2 + number]

    def cleared(self, number: int, mask: int) -> "CpuidRow":
        """This row with the bits of `mask` clear in register `number`."""
        name = ("eax", "ebx", "ecx", "edx")[number]
        return self._replace(**{name: self.register(number) & ~mask & 0xFFFF_FFFF})


class Feature(NamedTuple):
    """A feature bit of CPUID that a rule of KVM asks for."""

    name: str
    function: int
    subleaf: int
    register: int
    bit: int
    manual: str


# fmt: off
FEATURES = (
    Feature("MONITOR", 0x1, 0, ECX, 3, "SDM Vol. 2A, CPUID: MONITOR"),
    Feature("VMX", 0x1, 0, ECX, 5, "SDM Vol. 2A, CPUID: Virtual Machine Extensions"),
    Feature("SMX", 0x1, 0, ECX, 6, "SDM Vol. 2A, CPUID: Safer Mode Extensions"),
    Feature("PCID", 0x1, 0, ECX, 17, "SDM Vol. 2A, CPUID: Process-context identifiers"),
    Feature("X2APIC", 0x1, 0, ECX, 21, "SDM Vol. 2A, CPUID: x2APIC"),
    Feature("XSAVE", 0x1, 0, ECX, 26, "SDM Vol. 2A, CPUID: XSAVE"),
    Feature("RDRAND", 0x1, 0, ECX, 30, "SDM Vol. 2A, CPUID: RDRAND"),
    Feature("VME", 0x1, 0, EDX, 1, "SDM Vol. 2A, CPUID: Virtual 8086 Mode Enhancements"),
    Feature("DE", 0x1, 0, EDX, 2, "SDM Vol. 2A, CPUID: Debugging Extensions"),
    Feature("PSE", 0x1, 0, EDX, 3, "SDM Vol. 2A, CPUID: Page Size Extension"),
    Feature("TSC", 0x1, 0, EDX, 4, "SDM Vol. 2A, CPUID: Time Stamp Counter"),
    Feature("PAE", 0x1, 0, EDX, 6, "SDM Vol. 2A, CPUID: Physical Address Extension"),
    Feature("MCE", 0x1, 0, EDX, 7, "SDM Vol. 2A, CPUID: Machine Check Exception"),
    Feature("PGE", 0x1, 0, EDX, 13, "SDM Vol. 2A, CPUID: Page Global Bit"),
    Feature("FXSR", 0x1, 0, EDX, 24, "SDM Vol. 2A, CPUID: FXSAVE and FXRSTOR Instructions"),
    Feature("XMM", 0x1, 0, EDX, 25, "SDM Vol. 2A, CPUID: SSE"),
    Feature("FSGSBASE", 0x7, 0, EBX, 0, "SDM Vol. 2A, CPUID: FSGSBASE"),
    Feature("SGX", 0x7, 0, EBX, 2, "SDM Vol. 2A, CPUID: Intel Software Guard Extensions"),
    Feature("SMEP", 0x7, 0, EBX, 7, "SDM Vol. 2A, CPUID: SMEP"),
    Feature("INVPCID", 0x7, 0, EBX, 10, "SDM Vol. 2A, CPUID: INVPCID"),
    Feature("RTM", 0x7, 0, EBX, 11, "SDM Vol. 2A, CPUID: RTM"),
    Feature("MPX", 0x7, 0, EBX, 14, "SDM Vol. 2A, CPUID: MPX"),
    Feature("RDSEED", 0x7, 0, EBX, 18, "SDM Vol. 2A, CPUID: RDSEED"),
    Feature("SMAP", 0x7, 0, EBX, 20, "SDM Vol. 2A, CPUID: SMAP"),
    Feature("UMIP", 0x7, 0, ECX, 2, "SDM Vol. 2A, CPUID: UMIP"),
    Feature("PKU", 0x7, 0, ECX, 3, "SDM Vol. 2A, CPUID: PKU"),
    Feature("WAITPKG", 0x7, 0, ECX, 5, "SDM Vol. 2A, CPUID: WAITPKG"),
    Feature("SHSTK", 0x7, 0, ECX, 7, "SDM Vol. 2A, CPUID: CET shadow stack"),
    Feature("LA57", 0x7, 0, ECX, 16, "SDM Vol. 2A, CPUID: 57-bit linear addresses"),
    Feature("BUS_LOCK_DETECT", 0x7, 0, ECX, 24, "SDM Vol. 2A, CPUID: BUS_LOCK_DETECT"),
    Feature("SGX_LC", 0x7, 0, ECX, 30, "SDM Vol. 2A, CPUID: SGX_LC"),
    Feature("IBT", 0x7, 0, EDX, 20, "SDM Vol. 2A, CPUID: CET indirect branch tracking"),
    Feature("LAM", 0x7, 1, EAX, 26, "SDM Vol. 2A, CPUID: Linear Address Masking"),
    Feature("XSAVES", 0xD, 1, EAX, 3, "SDM Vol. 2A, CPUID: XSAVES"),
    Feature("SVM", 0x8000_0001, 0, ECX, 2, "APM Vol. 3, CPUID: Secure virtual machine"),
    Feature("SKINIT", 0x8000_0001, 0, ECX, 12, "APM Vol. 3, CPUID: SKINIT and STGI are supported"),
    Feature("NX", 0x8000_0001, 0, EDX, 20, "SDM Vol. 2A, CPUID: Execute Disable Bit available"),
    Feature("FXSR_OPT", 0x8000_0001, 0, EDX, 25, "APM Vol. 3, CPUID: FFXSR"),
    Feature("GBPAGES", 0x8000_0001, 0, EDX, 26, "SDM Vol. 2A, CPUID: 1-GByte pages"),
    Feature("RDTSCP", 0x8000_0001, 0, EDX, 27, "SDM Vol. 2A, CPUID: RDTSCP"),
    Feature("LM", 0x8000_0001, 0, EDX, 29, "SDM Vol. 2A, CPUID: Intel 64 Architecture"),
    Feature("RDPRU", 0x8000_0008, 0, EBX, 4, "APM Vol. 3, CPUID: RDPRU instruction supported"),
    Feature("EFER_LMSLE_MBZ", 0x8000_0008, 0, EBX, 20, "APM Vol. 3, CPUID: EFER.LMSLE unsupported"),
    Feature("NPT", 0x8000_000A, 0, EDX, 0, "APM Vol. 3, CPUID: Nested paging"),
    Feature("LBRV", 0x8000_000A, 0, EDX, 1, "APM Vol. 3, CPUID: LBR virtualization"),
    Feature("NRIPS", 0x8000_000A, 0, EDX, 3, "APM Vol. 3, CPUID: NRIP save"),
    Feature("TSCRATEMSR", 0x8000_000A, 0, EDX, 4, "APM Vol. 3, CPUID: MSR based TSC rate control"),
    Feature("FLUSHBYASID", 0x8000_000A, 0, EDX, 6, "APM Vol. 3, CPUID: Flush by ASID"),
    Feature("PAUSEFILTER", 0x8000_000A, 0, EDX, 10, "APM Vol. 3, CPUID: Pause intercept filter"),
    Feature("PFTHRESHOLD", 0x8000_000A, 0, EDX, 12, "APM Vol. 3, CPUID: PAUSE filter threshold"),
    Feature("V_VMSAVE_VMLOAD", 0x8000_000A, 0, EDX, 15, "APM Vol. 3, CPUID: VMSAVE and VMLOAD"),
    Feature("VGIF", 0x8000_000A, 0, EDX, 16, "APM Vol. 3, CPUID: Virtualize the GIF"),
    Feature("GMET", 0x8000_000A, 0, EDX, 17, "APM Vol. 3, CPUID: Guest Mode Execution Trap"),
    Feature("VNMI", 0x8000_000A, 0, EDX, 25, "APM Vol. 3, CPUID: NMI Virtualization"),
    Feature("SEV_ES", 0x8000_001F, 0, EAX, 3, "APM Vol. 3, CPUID: SEV Encrypted State"),
    Feature("AUTOIBRS", 0x8000_0021, 0, EAX, 8, "APM Vol. 3, CPUID: Automatic IBRS"),
)
# fmt: on

check_unique([feature.name for feature in FEATURES], "FEATURES")
FEATURE = {feature.name: feature for feature in FEATURES}


class Cpuid:
    """What CPUID shows a guest, or what KVM_GET_SUPPORTED_CPUID shows user space."""

    def __init__(self, rows: Iterable[Sequence[int]] = ()) -> None:
        self.rows = tuple(CpuidRow(*row) for row in rows)
        self._leaf = {(row.function, row.subleaf): row for row in reversed(self.rows)}
        self._has = {
            feature.name: bool(
                self.register(feature.function, feature.subleaf, feature.register) >> feature.bit
                & 1
            )
            for feature in FEATURES
        }
        self._features = frozenset(name for name, has in self._has.items() if has)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cpuid) and self.rows == other.rows

    def __hash__(self) -> int:
        return hash(self.rows)

    def leaf(self, function: int, index: int = 0) -> CpuidRow | None:
        """The row of a leaf; None where the table has none."""
        return self._leaf.get((function, index))

    def register(self, function: int, index: int, number: int) -> int:
        """Register `number` of a leaf; 0 where the table has no such leaf."""
        row = self._leaf.get((function, index))
        return 0 if row is None else row.register(number)

    def has(self, feature: str) -> bool:
        """Whether the bit of `feature` (a name of `FEATURES`) is set."""
        return self._has[feature]

    def features(self) -> frozenset[str]:
        """Names of all the features whose bit is set."""
        return self._features

    def cleared(self, function: int, index: int, register: int, mask: int) -> "Cpuid":
        """This table with the bits of `mask` taken out of a register of a leaf."""
        return Cpuid(
            row.cleared(register, mask) if row[:2] == (function, index) else row
            for row in self.rows
        )

    @property
    def maxphyaddr(self) -> int:
        """MAXPHYADDR as KVM takes it from this table: 36 where no leaf says it.

        Source: arch/x86/kvm/cpuid.c: cpuid_query_maxphyaddr.
        """
        highest = self._leaf.get((0x8000_0000, 0))
        sizes = self._leaf.get((0x8000_0008, 0))
        if highest is None or highest.eax < 0x8000_0008 or sizes is None:
            return 36
        return sizes.eax & 0xFF

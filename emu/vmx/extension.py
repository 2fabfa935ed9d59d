"""VMX operation of one processor: its pointers, its current VMCS, its MSRs and fixed bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from emu.cpu.errors import Fault
from emu.cpu.exit_report import ExitReport
from emu.cpu.guest_mode import Extension
from emu.cpu.paging import CR0_CD, CR0_NW, CR0_PE, CR0_PG, CR4_VMXE, EFER_LMA
from emu.cpu.state import Vector
from emu.cpu.system.control import cr4_bits
from emu.cpu.system.msrs import Refused
from emu.vmx import region
from emu.vmx.bits import P1, P2
from emu.vmx.capabilities import capability_msrs
from emu.vmx.region import CLEAR, FIELD_COUNT, INDEX, NO_VMCS, SHADOW_INDICATOR
from emu.vmx.report import exit_report
from emu.vmx.translations import Translations
from vmcs.batch.control_structures import VMCS_SIZE
from vmcs.schema import ControlWord
from vmcs.vmx.capability_msrs import (
    BASIC,
    BY_NAME,
    BY_NUMBER,
    EPT_VPID_CAP,
    MISC,
    Shape,
    allowed0,
    allowed1,
)
from vmcs.vmx.controls import ProcBased2
from vmcs.vmx.fields import FIELDS, field_at
from vmcs.vmx.instruction_errors import InstructionError

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.vmx.guest import NonRoot

FEATURE_CONTROL: Final = 0x3A
CAPABILITIES: Final = range(0x480, 0x494)
NEVER_CHECKED: Final = CR0_CD | CR0_NW  # of the fixed bits of CR0
ERROR: Final = INDEX["VM_INSTRUCTION_ERROR"]
PROC: Final = INDEX["CPU_BASED_VM_EXEC_CONTROL"]
PROC2: Final = INDEX["SECONDARY_VM_EXEC_CONTROL"]
LINEAR_WIDTHS: Final = (48, 57)
# words of the checks and the MSRs that bound them
BOUNDS: Final = (
    ("PIN", "TRUE_PINBASED_CTLS"),
    ("PROC", "TRUE_PROCBASED_CTLS"),
    ("PROC2", "PROCBASED_CTLS2"),
    ("EXIT", "TRUE_EXIT_CTLS"),
    ("ENTRY", "TRUE_ENTRY_CTLS"),
)


class Monitor(Protocol):
    """A host written in Python, in the place of what the host-state area describes."""

    def exited(self, vmx: Vmx) -> None:
        """VM exit: guest state and exit information are saved, no host state is loaded."""


class Vmx(Extension):
    """The extension. `words` is the current VMCS and what checks read beside it."""

    def __init__(self, cpu: Cpu) -> None:
        from emu.vmx import instructions  # noqa: PLC0415 - they know this module
        from emu.vmx.guest import NonRoot  # noqa: PLC0415

        super().__init__(cpu)
        self.table = instructions.TABLE
        self.monitor: Monitor | None = None
        checks = self.checks = region.checks()
        self.msrs = capability_msrs(cpu.model.features, cr4_bits(cpu))
        self.words = checks.vocabulary.words()
        self.words_at: int = self.words.ctypes.data
        self.fields: memoryview[int] = self.words.data
        self.met = np.zeros(1, np.int64)
        self.supported = frozenset(
            field.name for field in FIELDS if field.exists_with(self.allowed())
        )
        self.translations = Translations(cpu)
        self.non_root = NonRoot(self)
        self.encodings = region.encodings(self.supported, self.writes_any)
        cpu.state.vmcs_table = self.encodings.ctypes.data
        self.reset()
        self.load_words()

    def reset(self) -> None:
        """Leave VMX operation; nothing is current."""
        self.on = False
        self.region = NO_VMCS  # the VMXON pointer
        self.set_current(NO_VMCS)
        self.header = b""
        self.guest: NonRoot | None = None

    def init_reset(self) -> None:
        """INIT outside VMX operation changes nothing of it."""

    def exit_report(self) -> ExitReport:
        """The last VM exit of the current VMCS."""
        return exit_report(self)

    # capabilities

    def capability(self, name: str) -> int:
        """The value of a capability MSR."""
        return self.msrs[BY_NAME[name].number]

    def allowed(self) -> dict[ControlWord, int]:
        """Allowed 1-settings of every word of controls."""
        return {
            msr.controls: value if msr.shape is Shape.ALLOWED_1_SETTINGS else allowed1(value)
            for msr, value in ((BY_NUMBER[number], value) for number, value in self.msrs.items())
            if msr.controls is not None
        }

    def can(self, name: str) -> bool:
        """Whether a bit of IA32_VMX_EPT_VPID_CAP is set."""
        return bool(EPT_VPID_CAP.get(self.capability("IA32_VMX_EPT_VPID_CAP"), name))

    def load_words(self) -> None:
        """Put what the processor and its capabilities contribute into the words of the checks."""
        cpu, put = self.cpu, self.put
        width = cpu.model.maxphyaddr
        beyond = NO_VMCS ^ (1 << width) - 1
        put("PHYSICAL_RESERVED", beyond)
        put("PAGE_RESERVED", beyond | 0xFFF)
        put("LINEAR_ADDRESS_WIDTH", LINEAR_WIDTHS[cpu.model.has("LA57")])
        put("CR3_RESERVED", beyond)
        put("EFER_RESERVED", NO_VMCS ^ (0x501 | (0x800 if cpu.model.has("NX") else 0)))
        put("DEBUGCTL_RESERVED", NO_VMCS ^ 3)
        for name in ("PERF_GLOBAL", "S_CET", "RTIT_CTL", "LBR_CTL"):
            put(f"{name}_RESERVED", NO_VMCS)
        put("PDPTE_RESERVED", beyond | 0x1E6)
        basic, misc = self.capability("IA32_VMX_BASIC"), self.capability("IA32_VMX_MISC")
        put("VMCS_REVISION", BASIC.get(basic, "REVISION_ID"))
        put("ERROR_CODE_FREE", BASIC.get(basic, "ERROR_CODE_FREE"))
        put("CR3_TARGET_LIMIT", MISC.get(misc, "CR3_TARGETS"))
        put("ACTIVITY_STATES", 1 | (misc >> 6 & 7) << 1)
        put("ZERO_LENGTH_INJECTION", MISC.get(misc, "ZERO_LENGTH_INJECTION"))
        for word, name in BOUNDS:
            value = self.capability(f"IA32_VMX_{name}")
            put(f"{word}_MUST_BE_1", allowed0(value))
            put(f"{word}_MAY_BE_1", allowed1(value))
        put("PROC3_MAY_BE_1", 0)
        put("EXIT2_MAY_BE_1", 0)
        fixed0 = self.capability("IA32_VMX_CR0_FIXED0") & ~NEVER_CHECKED
        put("CR0_FIXED0", fixed0)
        put("CR0_FIXED0_UNRESTRICTED", fixed0 & ~(CR0_PE | CR0_PG))
        put("CR0_FIXED1", self.capability("IA32_VMX_CR0_FIXED1") | NEVER_CHECKED)
        put("CR4_FIXED0", self.capability("IA32_VMX_CR4_FIXED0"))
        put("CR4_FIXED1", self.capability("IA32_VMX_CR4_FIXED1"))
        put("EPTP_MEMORY_TYPES", self.can("MEMORY_TYPE_UC") | self.can("MEMORY_TYPE_WB") << 6)
        put("EPTP_WALK_LENGTHS", self.can("WALK_LENGTH_4") << 3 | self.can("WALK_LENGTH_5") << 4)
        put("EPTP_RESERVED", beyond | 0xF80 | (0 if self.can("ACCESSED_DIRTY") else 0x40))
        put("VMFUNC_RESERVED", NO_VMCS ^ self.capability("IA32_VMX_VMFUNC"))

    @property
    def revision(self) -> int:
        """The VMCS revision identifier."""
        return BASIC.get(self.capability("IA32_VMX_BASIC"), "REVISION_ID")

    @property
    def writes_any(self) -> bool:
        """Whether VMWRITE may write VM-exit information fields."""
        return bool(MISC.get(self.capability("IA32_VMX_MISC"), "VMWRITE_ANY"))

    def allows(self, control: ProcBased2) -> bool:
        """Whether a secondary control may be 1."""
        return bool(allowed1(self.capability("IA32_VMX_PROCBASED_CTLS2")) & control)

    def enables(self, control: ProcBased2) -> bool:
        """Whether a secondary control of the current VMCS is in force."""
        if not self.fields[PROC] & P1.ACTIVATE_SECONDARY_CONTROLS:
            return False
        return bool(self.fields[PROC2] & control)

    def is_valid_eptp(self, value: int) -> bool:
        """Whether VM entry would accept an EPT pointer."""
        index, fields = self.checks.index, self.fields
        return bool(
            fields[index("EPTP_MEMORY_TYPES")] >> (value & 7) & 1
            and fields[index("EPTP_WALK_LENGTHS")] >> (value >> 3 & 7) & 1
            and not value & fields[index("EPTP_RESERVED")]
        )

    def put(self, name: str, value: int) -> None:
        """Set a word by name."""
        self.words[self.checks.index(name)] = value

    def __getitem__(self, name: str) -> int:
        """A field of the current VMCS."""
        return self.fields[INDEX[name]]

    def __setitem__(self, name: str, value: int) -> None:
        self.fields[INDEX[name]] = value

    # what the processor asks

    def read_msr(self, index: int) -> int | None:
        """The capability MSRs."""
        if index in CAPABILITIES:
            value = self.msrs.get(index)
            if value is None:
                raise Refused
            return value
        return None

    def check_cr(self, number: int, value: int) -> None:
        """#GP(0) unless the bits of CR0 and CR4 that VMX operation fixes are so."""
        if not self.on:
            return
        fixed0 = self.capability(f"IA32_VMX_CR{number}_FIXED0")
        fixed1 = self.capability(f"IA32_VMX_CR{number}_FIXED1")
        if number == 0:
            if self.guest is not None and self.guest.proc2 & P2.UNRESTRICTED_GUEST:
                fixed0 &= ~(CR0_PE | CR0_PG)
            value &= 0xFFFFFFFF
        if fixed0 & ~value or value & ~fixed1:
            raise Fault(Vector.GP, 0)

    def blocks_init(self) -> bool:
        """INIT is blocked in VMX root operation. SDM Vol. 3, Restrictions on VMX Operation."""
        if self.guest is not None:
            return self.cpu.waits_for_sipi
        return self.on

    @property
    def fixed_cr_valid(self) -> bool:
        """Whether CR0 and CR4 are as VMX operation demands."""
        state = self.cpu.state
        for number, value in ((0, int(state.cr0)), (4, int(state.cr4))):
            fixed0 = self.capability(f"IA32_VMX_CR{number}_FIXED0")
            fixed1 = self.capability(f"IA32_VMX_CR{number}_FIXED1")
            if fixed0 & ~value or value & ~fixed1:
                return False
        return True

    @property
    def usable(self) -> bool:
        """Whether VMX instructions are no undefined opcodes in this mode."""
        cpu = self.cpu
        return bool(cpu.state.cr4 & CR4_VMXE) and not (
            not cpu.state.cr0 & CR0_PE
            or cpu.mode.vm86
            or (cpu.state.efer & EFER_LMA and cpu.mode.bits != 64)
        )

    # the current VMCS

    @property
    def has_current(self) -> bool:
        """Whether there is a current VMCS."""
        return self.current != NO_VMCS

    @property
    def launch_state(self) -> int:
        """Launch state of the current VMCS."""
        return int.from_bytes(self.header[8:12], "little")

    @launch_state.setter
    def launch_state(self, value: int) -> None:
        self.header = self.header[:8] + value.to_bytes(4, "little")

    @property
    def is_shadow(self) -> bool:
        """Whether the current VMCS is a shadow VMCS."""
        return bool(int.from_bytes(self.header[:4], "little") & SHADOW_INDICATOR)

    def set_current(self, address: int) -> None:
        """Write the current-VMCS pointer; compiled code accesses fields where it is valid."""
        self.current = address
        self.cpu.state.vmcs_words = 0 if address == NO_VMCS else self.words_at

    def make_current(self, address: int) -> None:
        """VMPTRLD: the VMCS at `address` becomes current."""
        if address == self.current:
            return
        self.write_back()
        data = bytes(self.cpu.memory.read(address, VMCS_SIZE))
        self.set_current(address)
        self.header = data[:12]
        self.words[:FIELD_COUNT] = region.fields_of(data)

    def write_back(self) -> None:
        """Write the current VMCS to its region."""
        if self.current != NO_VMCS:
            data = region.region_of(self.header, self.words[:FIELD_COUNT])
            self.cpu.memory.write(self.current, data)

    def clear(self, address: int) -> None:
        """VMCLEAR: the VMCS is in memory, its launch state is clear; it is current no more."""
        if address == self.current:
            self.launch_state = CLEAR
            self.write_back()
            self.set_current(NO_VMCS)
        else:
            self.cpu.memory.write(address + 8, CLEAR.to_bytes(4, "little"))

    def find_field(self, encoding: int) -> tuple[str, bool] | None:
        """The field that an encoding names, and whether its upper half is meant; else None."""
        if encoding >> 32:
            return None
        found = field_at(encoding)
        if found is None or found[0].name not in self.supported:
            return None
        return found[0].name, found[1]

    def fail(self, error: InstructionError) -> None:
        """VMfail: VMfailValid with a current VMCS, else VMfailInvalid."""
        from emu.vmx.instructions import fail_invalid, fail_valid  # noqa: PLC0415

        if self.current == NO_VMCS:
            fail_invalid(self.cpu)
        else:
            self.fields[ERROR] = int(error)
            fail_valid(self.cpu)

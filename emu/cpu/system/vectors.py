"""Vector and x87 instructions that may not run: #UD or #NM. SDM Vol. 2, Exception Specification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iced_x86 import EncodingKind

from emu.cpu import vectors
from emu.cpu.decode import MNEMONICS
from emu.cpu.errors import Fault, NotImplementedInstruction
from emu.cpu.flags import VM
from emu.cpu.paging import CR0_EM, CR0_PE, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE
from emu.cpu.state import CS, Vector
from emu.cpu.x87.unit import check_pending

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

AVX_STATE = 6  # XCR0: SSE and AVX


def refuse(cpu: Cpu, insn: Any) -> None:
    """Raise what keeps a vector instruction from running."""
    state = cpu.state
    if insn.encoding == EncodingKind.VEX:
        known = state.cr0 & CR0_PE and not state.rflags & VM
        enabled = state.cr4 & CR4_OSXSAVE and state.xcr0 & AVX_STATE == AVX_STATE
        if not known or not enabled:
            raise Fault(Vector.UD)
    elif state.cr0 & CR0_EM or (not vectors.is_mmx(insn) and not state.cr4 & CR4_OSFXSR):
        raise Fault(Vector.UD)
    if state.cr0 & CR0_TS:
        raise Fault(Vector.NM)
    if vectors.touches_x87(insn):
        check_pending(cpu)
    data = cpu.read_bytes(state.rip + state.linear_base[CS], insn.len)
    raise NotImplementedInstruction(state.rip, str(insn), data)


# MOVSD and CMPSD are also string instructions, which rows of their own cover
TABLE = {MNEMONICS[number]: refuse for number in vectors.BY_MNEMONIC}

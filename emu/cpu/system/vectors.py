"""Vector and x87 instructions that may not run: #UD or #NM. SDM Vol. 2, Exception Specification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emu.cpu import vectors
from emu.cpu.decode import MNEMONICS
from emu.cpu.errors import Fault, NotImplementedInstruction
from emu.cpu.paging import CR0_EM, CR0_TS
from emu.cpu.state import CS, Vector
from emu.cpu.system.vector_operands import permit
from emu.cpu.x87.unit import check_pending

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu


def permit_mmx(cpu: Cpu) -> None:
    """#UD or #NM where CR0 does not let MMX run."""
    if cpu.state.cr0 & CR0_EM:
        raise Fault(Vector.UD)
    if cpu.state.cr0 & CR0_TS:
        raise Fault(Vector.NM)


def refuse(cpu: Cpu, insn: Any) -> None:
    """Raise what keeps a vector instruction from running."""
    state = cpu.state
    if vectors.is_mmx(insn):
        permit_mmx(cpu)
    else:
        permit(cpu, insn)
    if vectors.touches_x87(insn):
        check_pending(cpu)
    data = cpu.read_bytes(state.rip + state.linear_base[CS], insn.len)
    raise NotImplementedInstruction(state.rip, str(insn), data)


# MOVSD and CMPSD are also string instructions, which rows of their own cover
TABLE = {MNEMONICS[number]: refuse for number in vectors.BY_MNEMONIC}

"""The instructions of SVM. APM Vol. 3, the page that each docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from iced_x86 import OpCodeInfo

from emu.cpu.decode import MNEMONICS
from emu.cpu.errors import Fault
from emu.cpu.paging import EFER_SVME, WRITE
from emu.cpu.second_level import NO_LINEAR
from emu.cpu.state import Vector
from emu.cpu.system.operands import (
    get_register,
    is_canonical,
    protected,
    require_feature,
    require_privilege,
)
from emu.svm.compiled import transfers
from emu.svm.guest import V_GIF, V_GIF_ENABLE, SvmGuest
from emu.svm.skinit import secure_init
from vmcs.svm.intercepts import intercept

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.svm.extension import Svm
    from emu.svm.vmcb import ControlBlock

PAGE_OFFSET: Final = 0xFFF
RAX, MASK32 = 0, 0xFFFF_FFFF
POSITIONS: Final = {
    name: intercept(name).position
    for name in ("VMRUN", "VMLOAD", "VMSAVE", "STGI", "CLGI", "SKINIT", "INVLPGA", "VMMCALL")
}


def begin(cpu: Cpu, insn: Any) -> Svm:
    """What precedes each of them: #UD, #GP(0) above CPL 0, then the intercept."""
    name = MNEMONICS[insn.mnemonic]
    skinit = name in ("SKINIT", "STGI") and cpu.model.has("SKINIT")
    if not (cpu.state.efer & EFER_SVME or skinit) or not protected(cpu):
        raise Fault(Vector.UD)
    require_privilege(cpu)
    if isinstance(cpu.guest, SvmGuest):
        cpu.guest.check(POSITIONS[name])
    return cast("Svm", cpu.extension)


def operand(cpu: Cpu, insn: Any) -> int:
    """The physical address of a VMCB in rAX; #GP(0) when it is no page of physical memory."""
    width = address_width(insn)
    address = get_register(cpu, RAX, width)
    if address & (PAGE_OFFSET | ~int(cpu.state.physical_mask)):
        raise Fault(Vector.GP, 0)
    return address


def address_width(insn: Any) -> int:
    """The address size in bits: the width of rAX, the implied operand."""
    return int(OpCodeInfo(insn.code).address_size)


def vmrun(cpu: Cpu, insn: Any) -> None:
    """VMRUN."""
    svm = begin(cpu, insn)
    svm.run(svm.block_at(operand(cpu, insn)))


def state_block(cpu: Cpu, svm: Svm, insn: Any) -> ControlBlock:
    """The VMCB of VMLOAD and VMSAVE; the address is guest-physical where they are virtualized."""
    address = operand(cpu, insn)
    if isinstance(cpu.guest, SvmGuest) and cpu.guest.plan.moves_state:
        address = cpu.physical(address, WRITE | NO_LINEAR)
    return svm.block_at(address)


def vmload(cpu: Cpu, insn: Any) -> None:
    """VMLOAD."""
    svm = begin(cpu, insn)
    transfers()["vmload"](cpu.state.address, state_block(cpu, svm, insn).host)
    cpu.refresh()


def vmsave(cpu: Cpu, insn: Any) -> None:
    """VMSAVE."""
    block = state_block(cpu, begin(cpu, insn), insn)
    transfers()["vmsave"](cpu.state.address, block.host)
    block.written()


def vmmcall(cpu: Cpu, insn: Any) -> None:
    """VMMCALL: for an intercept only, which precedes every exception."""
    if isinstance(cpu.guest, SvmGuest):
        cpu.guest.check(POSITIONS["VMMCALL"])
    raise Fault(Vector.UD)


def stgi(cpu: Cpu, insn: Any) -> None:
    """STGI: sets GIF, or V_GIF in a guest that has a flag of its own."""
    write_gif(cpu, begin(cpu, insn), True)


def clgi(cpu: Cpu, insn: Any) -> None:
    """CLGI: clears GIF, or V_GIF."""
    write_gif(cpu, begin(cpu, insn), False)


def write_gif(cpu: Cpu, svm: Svm, value: bool) -> None:
    """Write GIF, or V_GIF. APM Vol. 2, Virtual GIF."""
    guest = cpu.guest
    if isinstance(guest, SvmGuest) and guest.int_ctl & V_GIF_ENABLE:
        guest.int_ctl = guest.int_ctl & ~V_GIF | (V_GIF if value else 0)
        cpu.update_pending()
    else:
        svm.set_gif(value)


def invlpga(cpu: Cpu, insn: Any) -> None:
    """INVLPGA: the translations of the ASID in ECX for the page at rAX."""
    svm = begin(cpu, insn)
    linear = get_register(cpu, RAX, address_width(insn))
    if is_canonical(cpu, linear):
        svm.asids.flush(int(cpu.state.rcx) & MASK32)


def skinit(cpu: Cpu, insn: Any) -> None:
    """SKINIT."""
    require_feature(cpu, "SKINIT")
    secure_init(begin(cpu, insn))


TABLE: Final[dict[str, Callable[[Cpu, Any], None]]] = {
    "VMRUN": vmrun,
    "VMLOAD": vmload,
    "VMSAVE": vmsave,
    "VMMCALL": vmmcall,
    "STGI": stgi,
    "CLGI": clgi,
    "INVLPGA": invlpga,
    "SKINIT": skinit,
}

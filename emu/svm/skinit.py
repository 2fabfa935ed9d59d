"""SKINIT: a secure loader begins. APM Vol. 2, Secure Startup with SKINIT; Vol. 3, SKINIT.

The loader's image goes to the TPM, which this board has none of: nobody measures it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu.paging import CR0_ET, CR0_PE
from emu.cpu.state import CS, DS
from vmcs.svm.msrs import VM_CR

if TYPE_CHECKING:
    from emu.svm.extension import Svm

LOADER_SIZE: Final = 1 << 16
CODE_SELECTOR, STACK_SELECTOR = 8, 16
CODE_RIGHTS, STACK_RIGHTS = 0xC09B, 0xC093  # 32 bits, 4 GBytes
SECURED: Final = VM_CR["DPD"].mask | VM_CR["R_INIT"].mask | VM_CR["DIS_A20M"].mask


def secure_init(svm: Svm) -> None:
    """The state after INIT, in flat protected mode, at the entry point of the loader in EAX."""
    cpu = svm.cpu
    state = cpu.state
    loader = int(state.rax) & 0xFFFF_FFFF & ~(LOADER_SIZE - 1)
    entry = int.from_bytes(cpu.memory.read(loader, 2), "little")
    cpu.init_reset()
    svm.vm_cr |= SECURED
    state.cr0 |= CR0_PE | CR0_ET
    for seg in range(DS + 1):
        selector, rights = (STACK_SELECTOR, STACK_RIGHTS)
        if seg == CS:
            selector, rights = (CODE_SELECTOR, CODE_RIGHTS)
        state.selector[seg], state.segment_base[seg] = selector, 0
        state.segment_limit[seg], state.segment_rights[seg] = 0xFFFF_FFFF, rights
    state.rax, state.rsp = loader, loader + LOADER_SIZE
    cpu.next_rip = loader + entry
    svm.set_gif(False)
    cpu.refresh()

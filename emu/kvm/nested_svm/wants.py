"""Whose an exit from L2 is: L0's, or L1's to see.

Source: arch/x86/kvm/svm/nested.c: nested_svm_exit_special, nested_svm_intercept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.exit_info import IOIO
from vmcs.svm.intercepts import intercept
from vmcs.svm.msrs import msrpm_bit

if TYPE_CHECKING:
    from emu.kvm.nested_svm.state import ControlBlock
    from emu.kvm.running.svm_run import SvmRun

INVALID: Final = (1 << 64) - 1
LAST_INTERCEPT: Final = 6 * 32
PAGE_OFFSET: Final = 0xFFF

# Exits that L0 always deals with itself, should it then tell L1 of something.
OF_L0: Final = frozenset({SvmExit.INTR, SvmExit.NMI, SvmExit.NPF})


def is_for_l1(l0: SvmRun, code: int) -> bool:
    """Whether L1 gets an exit from L2 with this code."""
    if code == INVALID:
        return True
    if code in OF_L0:
        return False
    vmcb12 = l0.svm.nested.vmcb12
    if code == SvmExit.MSR:
        return _msr(l0, vmcb12)
    if code == SvmExit.IOIO:
        return _port(l0, vmcb12)
    return code < LAST_INTERCEPT and intercepts(vmcb12, code)


def intercepts(vmcb12: ControlBlock, position: int) -> bool:
    """Whether L1 intercepts what has this place in the vector."""
    return bool(vmcb12.intercept_vector() >> position & 1)


def exits_on(vmcb12: ControlBlock, name: str) -> bool:
    """Whether L1 intercepts what is called `name`."""
    return intercepts(vmcb12, intercept(name).position)


def _msr(l0: SvmRun, vmcb12: ControlBlock) -> bool:
    """RDMSR and WRMSR by L1's permission map (nested_svm_exit_handled_msr)."""
    if not exits_on(vmcb12, "MSR_PROT"):
        return False
    place = msrpm_bit(l0.vcpu.read_register("rcx") & 0xFFFF_FFFF)
    if place is None:
        return True
    place += l0.svm.vmcb["exit_info_1"] & 1
    byte = l0.vcpu.memory.read((vmcb12["msrpm_base_pa"] & ~PAGE_OFFSET) + place // 8, 1)
    return byte is None or bool(byte[0] >> place % 8 & 1)


def _port(l0: SvmRun, vmcb12: ControlBlock) -> bool:
    """IN and OUT by L1's permission map (nested_svm_intercept_ioio)."""
    if not exits_on(vmcb12, "IOIO_PROT"):
        return False
    info = l0.svm.vmcb["exit_info_1"]
    port, size = IOIO.get(info, "PORT"), port_size(info)
    address = (vmcb12["iopm_base_pa"] & ~PAGE_OFFSET) + port // 8
    data = l0.vcpu.memory.read(address, 2)
    if data is None:
        return True
    return bool(int.from_bytes(data, "little") >> port % 8 & (1 << size) - 1)


def port_size(info: int) -> int:
    """Bytes of an access to a port."""
    return next(size for size in (1, 2, 4) if IOIO.get(info, f"SZ{8 * size}"))

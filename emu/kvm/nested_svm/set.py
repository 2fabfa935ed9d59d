"""KVM_SET_NESTED_STATE on AMD: the program is walked, then its effects are carried out in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from emu.kvm.nested_svm.enter import leave_guest_mode, prepare_controls, save_l1_controls
from emu.kvm.nested_svm.rules import PAGE_OFFSET, set_program
from emu.kvm.nested_svm.words import BLOB_WORDS, ENVIRONMENT_WORDS
from emu.kvm.rule_program import PreparedWalk
from vmcs.checks import Kind
from vmcs.nested_state import SIZE_WITH_VMCB12, VMCB12_OFFSET, NestedFlag
from vmcs.svm.intercepts import ExceptionIntercept

if TYPE_CHECKING:
    from emu.kvm.svm import Svm

_FORMATS: Final = {2: Struct("<H"), 8: Struct("<Q")}
_BLOB: Final = {word.name: (_FORMATS.get(word.width), word.offset) for word in BLOB_WORDS}
GIF_SET, RUN_PENDING = int(NestedFlag.GIF_SET), int(NestedFlag.RUN_PENDING)
_FIRST: Final = len(BLOB_WORDS)

# Vectors that are exceptions of every guest; #CP and #VC come with a feature
# (arch/x86/kvm/svm/nested.c: nested_svm_event_inj_valid_exept).
CP_VECTOR, VC_VECTOR = 21, 29
EXCEPTION_VECTORS: Final = sum(
    1 << row.bit
    for row in ExceptionIntercept.table
    if not row.reserved and row.bit not in (CP_VECTOR, VC_VECTOR)
)


def set_nested_state(svm: Svm, state: memoryview) -> int:
    """The ioctl; `state` is the user's memory from the header on.

    Source: arch/x86/kvm/svm/nested.c: svm_set_nested_state.
    """
    program, record, words = prepared(svm, state)
    row = program.walk_record(record, words)
    whole = memoryview(record)
    for name in program.effects:
        EFFECTS[name](svm, whole)
    if row is None:
        return 0
    if row.kind is Kind.CHECK:
        raise program.refusal(row, words)
    return program.result(row, words)


def prepared(svm: Svm, state: memoryview) -> PreparedWalk:
    """The program, the record and the words with which SET would walk `state` now."""
    program = set_program(svm.release)
    readable = len(state)
    if readable < SIZE_WITH_VMCB12:
        state = memoryview(bytes(state).ljust(SIZE_WITH_VMCB12, b"\0"))
    words = program.template.copy()
    words[_FIRST : _FIRST + len(ENVIRONMENT_WORDS)] = environment(svm, state, readable)
    return PreparedWalk(program, np.frombuffer(state, np.uint8), words)


def environment(svm: Svm, state: memoryview, readable: int) -> tuple[int, ...]:
    """The values of `ENVIRONMENT_WORDS` now, in their order."""
    vcpu = svm.vcpu
    return (
        readable,
        vcpu.efer,
        vcpu.read_cr0(),
        vcpu.read_cr3(),
        vcpu.smm,
        svm.nested.in_guest_mode,
        vcpu.physical_reserved,
        vcpu.cr3_reserved,
        vcpu.cr4_reserved,
        vcpu.efer_reserved,
        svm.guest_forms.misc_ctl,
        svm.exception_vectors,
        vcpu.host.parameters.npt,
        svm.shared_pat,
        svm.needs_msrpm and _msrpm_in_memory(svm, state),
        svm.unknown_flags,
        svm.forms.bytes_read,
    )


def _msrpm_in_memory(svm: Svm, state: memoryview) -> bool:
    return svm.vcpu.memory.read(_word(state, "MSRPM_BASE_PA") & ~PAGE_OFFSET, 4) is not None


def _word(state: memoryview, name: str) -> int:
    layout, offset = _BLOB[name]
    if layout is None:
        raise KeyError(name)
    value: int = layout.unpack_from(state, offset)[0]
    return value


def _vmcb_of(state: memoryview) -> memoryview:
    return state[VMCB12_OFFSET:SIZE_WITH_VMCB12]


# Effects ------------------------------------------------------------------------------------------
def leave_nested(svm: Svm, _: memoryview) -> None:
    """Leave L2, if in it."""
    leave_guest_mode(svm)


def set_gif(svm: Svm, state: memoryview) -> None:
    """Set the global interrupt flag as the blob has it."""
    svm.set_gif(bool(_word(state, "FLAGS") & GIF_SET))


def keep_l1_in_hsave(svm: Svm, state: memoryview) -> None:
    """Keep what runs now, and all of the blob's save area, as L1 (kernels with one block)."""
    save_l1_controls(svm)
    svm.vmcb02.take(_vmcb_of(state), (svm.forms.save_area,))


def move_registers_to_vmcb02(svm: Svm, _: memoryview) -> None:
    """What user space has set are registers of L2: they move to the block that runs it."""
    svm.vmcb02.take(svm.vmcb01.view, (svm.forms.save_area,))


def set_run_pending(svm: Svm, state: memoryview) -> None:
    """Note whether VMRUN has still to be completed."""
    svm.nested.run_pending = bool(_word(state, "FLAGS") & RUN_PENDING)


def load_l1_into_vmcb01(svm: Svm, state: memoryview) -> None:
    """Load L1's registers.  Source: arch/x86/kvm/svm/nested.c: svm_copy_vmrun_state."""
    svm.vmcb01.take(_vmcb_of(state), svm.forms.loaded)
    svm.vmcb01.change(svm.forms.l1_changes)


def load_controls(svm: Svm, state: memoryview) -> None:
    """Cache the controls of L2.

    Source: arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache.
    """
    svm.nested.vmcb12_gpa = _word(state, "VMCB_PA")
    svm.nested.vmcb12.take(_vmcb_of(state), svm.forms.cached)
    svm.nested.vmcb12.change(svm.guest_forms.changes)


def load_gpat(svm: Svm, state: memoryview) -> None:
    """Give L2 the PAT of its own that the header holds."""
    svm.vmcb02["g_pat"] = _word(state, "GPAT")


def enter_guest_mode(svm: Svm, _: memoryview) -> None:
    """Make the block of L2 the current one and fill in its controls."""
    if svm.two_blocks:
        svm.vmcb = svm.vmcb02
    prepare_controls(svm)


def request_pages(svm: Svm, _: memoryview) -> None:
    """Ask for what the next KVM_RUN reads from guest memory."""
    svm.nested.recalculate_msrpm = True
    svm.nested.pages_requested = True


EFFECTS: Final[Mapping[str, Callable[[Svm, memoryview], None]]] = MappingProxyType(
    {
        "leave_nested": leave_nested,
        "set_gif": set_gif,
        "keep_l1_in_hsave": keep_l1_in_hsave,
        "leave_guest_mode": leave_nested,
        "move_registers_to_vmcb02": move_registers_to_vmcb02,
        "set_gif_before_entry": set_gif,
        "set_run_pending": set_run_pending,
        "load_l1_into_vmcb01": load_l1_into_vmcb01,
        "load_controls": load_controls,
        "load_gpat": load_gpat,
        "enter_guest_mode": enter_guest_mode,
        "request_pages": request_pages,
        "set_gif_after_entry": set_gif,
    }
)
"""How each effect of `rules.SET_RULES` is carried out."""

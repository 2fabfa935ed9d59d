"""KVM_GET_NESTED_STATE on AMD: the header, then L2's controls and L1's registers."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from vmcs.nested_state import HEADER_SIZE, SIZE_WITH_VMCB12, VMCB12_OFFSET, Format, NestedFlag
from vmcs.svm.vmcb import VMCB_SIZE

if TYPE_CHECKING:
    from emu.kvm.svm import Svm

_HEADER: Final = Struct("<HHIQQ104x")
GUEST_MODE, RUN_PENDING = int(NestedFlag.GUEST_MODE), int(NestedFlag.RUN_PENDING)
GIF_SET, SVM = int(NestedFlag.GIF_SET), int(Format.SVM)
_NOTHING: Final = bytes(VMCB_SIZE)


def get_nested_state(svm: Svm, buffer: bytearray, size: int) -> int:
    """The ioctl below the x86 layer: fill `buffer`, return the size that the state has.

    In guest mode all of it is written where `size` holds the header; the x86 layer then finds that
    `size` is too small.  Source: arch/x86/kvm/svm/nested.c: svm_get_nested_state.
    """
    if size < HEADER_SIZE:
        return HEADER_SIZE
    nested = svm.nested
    flags, vmcb_pa, gpat, needed = 0, 0, 0, HEADER_SIZE
    if nested.in_guest_mode:
        flags |= GUEST_MODE
        vmcb_pa = nested.vmcb12_gpa
        needed = SIZE_WITH_VMCB12
        if svm.l2_has_own_pat:
            gpat = svm.vmcb["g_pat"]
        if nested.run_pending:
            flags |= RUN_PENDING
    if svm.gif:
        flags |= GIF_SET
    _HEADER.pack_into(buffer, 0, flags, SVM, needed, vmcb_pa, gpat)
    if not nested.in_guest_mode:
        return needed
    out = memoryview(buffer)[VMCB12_OFFSET:SIZE_WITH_VMCB12]
    out[:] = _NOTHING
    vmcb12 = nested.vmcb12.view
    for part in svm.forms.emitted:
        out[part] = vmcb12[part]
    save = svm.forms.save_area
    out[save] = svm.l1_block.view[save]
    return needed

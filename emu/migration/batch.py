"""What one kernel says to many nested states at once: the same program, walked over an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emu.kvm import Kvm
from emu.migration.capture import Capture
from emu.migration.guest import load_registers, new_vcpu
from vmcs.check_programs import judge_records
from vmcs.checks import Row
from vmcs.nested_state import VMCB12_OFFSET, VMCS12_OFFSET
from vmcs.svm.vmcb import member
from vmcs.vmx.vmcs12 import VMCS12_BASE, members_of

# Words that come from guest memory: a state whose verdict can depend on them is asked by itself.
MEMORY_WORDS = ("LINK_BACKED", "LINK_FIRST_WORD", "PDPTES_BACKED", "PDPTE0", "MSRPM_IN_MEMORY")


def _vmcs12(name: str) -> slice:
    row = MEMBERS[name]
    return slice(VMCS12_OFFSET + row.offset, VMCS12_OFFSET + row.end)


MEMBERS = members_of(VMCS12_BASE)
_MSRPM = member("msrpm_base_pa")
# Where a state says which guest memory KVM reads.
MEMORY_POINTERS = {
    "intel": (_vmcs12("VMCS_LINK_POINTER"), _vmcs12("GUEST_CR3")),
    "amd": (slice(VMCB12_OFFSET + _MSRPM.offset, VMCB12_OFFSET + _MSRPM.end),),
}


class BatchJudge:
    """The first row at which KVM_SET_NESTED_STATE of `kvm` ends, for each of N nested states.

    Every state is taken by a vCPU of its own whose registers are those of `like`.
    """

    def __init__(self, kvm: Kvm, like: Capture) -> None:
        self.kvm, self.like = kvm, like
        self.vcpu = new_vcpu(kvm)
        load_registers(self.vcpu, like)
        maximum = kvm.check_extension(157)
        blank = bytearray(like.blob).ljust(maximum, b"\0")
        self._walk = self.vcpu.operations.prepared_walk(memoryview(blank))
        self.width = len(self._walk.record)
        program = self._walk.program.program
        vocabulary = self._walk.program.vocabulary
        self.rows: tuple[Row, ...] = program.rows
        known = [vocabulary.index(name) for name in MEMORY_WORDS if name in vocabulary]
        self._asks_memory = not program.words_read.isdisjoint(known)

    def stops(self, blobs: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Index into `rows` of the row that ends each walk; len(rows) where the state is taken.

        `blobs` is (N, width) uint8, C-contiguous: nested states with zeroes behind them.
        """
        if blobs.ndim != 2 or blobs.shape[1] != self.width or blobs.dtype != np.uint8:
            raise ValueError(f"blobs must be (N, {self.width}) uint8, not {blobs.shape}")
        program = self._walk.program
        found = np.zeros(len(blobs), np.int64)
        blobs = np.ascontiguousarray(blobs)
        judge_records(blobs, program.fields, self._walk.words, program.program.code, found)
        for i in self._reading_memory(blobs):
            walk = self.vcpu.operations.prepared_walk(memoryview(blobs[i]))
            row = walk.program.walk_record(walk.record, walk.words)
            found[i] = len(self.rows) if row is None else self.rows.index(row)
        return found

    def _reading_memory(self, blobs: NDArray[np.uint8]) -> list[int]:
        """Numbers of the states whose words of guest memory may differ from those of `like`."""
        if not self._asks_memory:
            return []
        differs = np.zeros(len(blobs), bool)
        like = self._walk.record
        for span in MEMORY_POINTERS[self.kvm.host.vendor]:
            differs |= np.any(blobs[:, span] != like[span], axis=1)
        return np.flatnonzero(differs).tolist()

    def rule(self, stop: int) -> Row | None:
        """The row of a stop; None for a state that is taken."""
        return self.rows[stop] if stop < len(self.rows) else None

"""Why KVM_RUN comes back to user space for good."""

from __future__ import annotations

from enum import Enum

from emu.errors import InputError


class UserExit(Enum):
    """Exit reasons of `struct kvm_run`. include/uapi/linux/kvm.h: KVM_EXIT_*."""

    SHUTDOWN = "KVM_EXIT_SHUTDOWN"
    FAIL_ENTRY = "KVM_EXIT_FAIL_ENTRY"
    INTERNAL_ERROR = "KVM_EXIT_INTERNAL_ERROR"


class RunError(InputError):
    """KVM cannot go on with the guest."""

    def __init__(self, why: UserExit, detail: str) -> None:
        super().__init__(f"KVM_RUN: {why.value}: {detail}")
        self.why = why

"""KVM_RUN of one vCPU: what is common to both vendors.

Source: arch/x86/kvm/x86.c: vcpu_run, vcpu_enter_guest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Final
from zlib import crc32

from emu.cpu.errors import Fault, GuestExit
from emu.cpu.state import NO_ERROR_CODE, Vector
from emu.kvm.control_registers import CR4
from emu.kvm.running.registers import load_general, save_general

if TYPE_CHECKING:
    from emu.kvm.running.machine import VirtualCore
    from emu.kvm.running.user_exit import UserExit
    from emu.kvm.vcpu import Vcpu

EXIT_TICKS: Final = 1000
"""What a VM exit to L0 and the entry after it take, in cycles of the TSC: a microsecond."""

SUMMED: Final = ("rip", "rsp", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp")
SUMMARY: Final = Struct(f"<{2 + len(SUMMED)}Q")
INTERRUPT_FLAG: Final = 1 << 9
MP_RUNNABLE, MP_INIT_RECEIVED, MP_HALTED = 0, 2, 3
LAZY: Final = 0x7F


class Run(ABC):
    """L0 of one vCPU. `core` is the processor that it runs on, and user space's devices.

    `checksum` sums up every exit: its reason, who was left where, with which registers.
    `watch` is called after each exit that was dealt with, before the guest is entered again.
    """

    def __init__(self, vcpu: Vcpu, core: VirtualCore) -> None:
        self.vcpu, self.core, self.cpu = vcpu, core, core.cpu
        self.reason = 0
        self.exits = self.entries = 0
        self.tsc_offset = 0
        self.event_length = 0
        self.ended: UserExit | None = None
        self.checksum = 0
        self.left_l2 = False
        """Whether the last exit left L2."""
        self.watch: Callable[[Run], None] | None = None

    # What a vendor does --------------------------------------------------------------------------
    @property
    @abstractmethod
    def exit_code(self) -> int:
        """The exit reason or exit code of the last exit."""

    @property
    @abstractmethod
    def in_64_bit_mode(self) -> bool:
        """Whether the guest executes 64-bit code."""

    @abstractmethod
    def prepare(self) -> None:
        """What the vendor's control structure needs before the first entry."""

    @abstractmethod
    def take_exit(self) -> None:
        """What the exit left in the control structure, and the event that was in delivery."""

    @abstractmethod
    def handle_exit(self) -> None:
        """L1's exit, or L0's own; raises Fault for an exception of the guest's."""

    @abstractmethod
    def check_nested_events(self) -> None:
        """Leave L2 for an event that L1 is to see."""

    @abstractmethod
    def inject(self) -> bool:
        """Put an event into the control structure; whether the guest is to exit again at once."""

    @abstractmethod
    def enter_hardware(self) -> None:
        """Enter the guest with the control structure that is loaded."""

    @abstractmethod
    def interrupt_allowed(self) -> bool:
        """Whether an external interrupt is not blocked."""

    def may_wake(self) -> bool:
        """Whether something to come can end the vCPU's wait."""
        return self.interrupt_allowed()

    @abstractmethod
    def nested_event_waits(self) -> bool:
        """Whether something other than interrupts and exceptions makes L2 exit."""

    @abstractmethod
    def describe(self) -> str:
        """The last exit, for the reader of an error."""

    # Asked by the emulation of instructions ------------------------------------------------------
    def is_canonical(self, linear: int) -> bool:
        """Whether a linear address is canonical for the guest's paging."""
        width = 57 if self.vcpu.read_cr4() & CR4.LA57 else 48
        return linear >> width - 1 in (0, (1 << 65 - width) - 1)

    def read(self, linear: int, size: int) -> int:
        """Guest memory at a linear address; raises Fault as the guest's access would."""
        self.cpu.flush_tlb(0)
        return self.cpu.read(linear, size)

    def write(self, linear: int, value: int, size: int) -> None:
        """Write guest memory at a linear address."""
        self.cpu.flush_tlb(0)
        self.cpu.write(linear, value, size)

    def halt(self) -> None:
        """The vCPU waits for an event (kvm_emulate_halt_noskip)."""
        self.vcpu.mp_state = MP_HALTED

    def end(self, why: UserExit) -> None:
        """Back to user space for good."""
        self.ended = why

    def queue_exception(self, fault: Fault) -> None:
        """An exception for the guest that an emulated instruction raised (kvm_queue_exception)."""
        with_code = fault.error not in (None, NO_ERROR_CODE)
        page_fault = fault.vector == Vector.PF
        if page_fault:
            self.vcpu.cr2 = fault.address or 0
        self.vcpu.events = self.vcpu.events.replaced(
            exception_pending=1,
            exception_injected=0,
            exception_nr=int(fault.vector),
            exception_has_error_code=int(with_code),
            exception_error_code=int(fault.error or 0) if with_code else 0,
            exception_payload=int(fault.address or 0) if page_fault else 0,
        )

    # Exit and entry ------------------------------------------------------------------------------
    def exited(self, _extension: object) -> None:
        """The processor left the guest; it goes on from here unless user space has the vCPU."""
        vcpu = self.vcpu
        save_general(vcpu, self.cpu.state)
        vcpu.in_cache &= ~LAZY
        self.take_exit()
        self.core.charge(EXIT_TICKS)
        self.core.publish_time()
        self.exits += 1
        self._sum_up()
        try:
            self.handle_exit()
        except Fault as fault:
            self.queue_exception(fault)
        if self.core.stop_at_exit == self.exits:
            self.core.pause()
        if self.watch is not None:
            self.watch(self)
        self.resume()

    def _sum_up(self) -> None:
        """Add this exit to the checksum."""
        self.left_l2 = self.vcpu.operations.in_guest_mode
        values = (
            self.exit_code,
            int(self.left_l2),
            *(self.vcpu.read_register(name) for name in SUMMED),
        )
        self.checksum = crc32(SUMMARY.pack(*values), self.checksum)

    def count_from(self, other: Run) -> None:
        """Go on counting where another run, that of the same guest, has stopped."""
        self.exits, self.entries, self.checksum = other.exits, other.entries, other.checksum

    def resume(self) -> None:
        """Enter the guest, unless it waits, has ended, or user space has it."""
        self.core.publish_time()
        if self.ended is None and not self.core.paused and self.vcpu.operations.in_guest_mode:
            self.check_nested_events()
        if self.core.paused or not self.can_enter():
            self.core.leave()
            return
        if self.vcpu.mp_state == MP_HALTED:
            self.vcpu.mp_state = MP_RUNNABLE
        immediately = self.inject()
        load_general(self.vcpu, self.cpu.state)
        self.core.kick(immediately)
        try:
            self.enter_hardware()
        except GuestExit:
            self.cpu.leave_guest()

    def can_enter(self) -> bool:
        """Whether the vCPU is runnable (kvm_arch_vcpu_runnable)."""
        if self.ended is not None:
            return False
        if self.vcpu.mp_state == MP_RUNNABLE:
            return True
        events = self.vcpu.events
        if events.exception_pending or events.exception_injected or events.interrupt_injected:
            return True
        if events.nmi_pending and not self.vcpu.operations.get_nmi_mask():
            return True
        if self.vcpu.pending_init or self.nested_event_waits():
            return True
        return self.core.interrupt_waits and self.interrupt_allowed()

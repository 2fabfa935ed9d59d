"""Moving a guest that runs: save the vCPU after an exit, restore it on another kernel, run on.

The board stays: memory, devices, interrupt controllers and time are the VMM's to move, and it moves
them whole. What the kernels hold of the vCPU goes through the ioctls, in the order in which a VMM
uses them. Whether anything was lost shows in what the guest does from then on, beside a twin that
was not moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from errno import EINVAL
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.errors import InputError, KvmError
from emu.kvm.running.machine import KvmCores, VirtualCore, make_run, make_vcpu, make_vm
from emu.kvm.structs import DebugRegs, Regs, Sregs, VcpuEvents
from emu.machine.board import Board, Outcome
from emu.machine.config import BoardConfig
from emu.machine.loaders import load

if TYPE_CHECKING:
    from emu.cpu.models import Model
    from emu.kvm import Kvm, Vcpu

MSRS: Final = (
    0x10, 0x3A, 0x174, 0x175, 0x176, 0x1A0, 0x1D9, 0x277,
    0xC000_0081, 0xC000_0082, 0xC000_0083, 0xC000_0084, 0xC000_0102, 0xC000_0103,
)  # fmt: skip
"""What a VMM saves: time, feature control, system calls, debugging, memory types."""

NESTED_STATE_CAPABILITY: Final = 157
VALID_EVENTS: Final = 0x1 | 0x2 | 0x4 | 0x8
"""struct kvm_vcpu_events, flags: NMI pending, SIPI vector, shadow and SMM are valid."""


@dataclass(frozen=True)
class SavedVcpu:
    """All that user space gets of a vCPU before a move."""

    regs: Regs
    sregs: Sregs
    events: VcpuEvents
    mp_state: int
    debugregs: DebugRegs
    xcr0: int
    xsave: bytes
    msrs: Mapping[int, int]
    nested_state: bytes


def save(vcpu: Vcpu) -> SavedVcpu:
    """The ioctls that get a vCPU's state. Source: QEMU, target/i386/kvm: kvm_arch_get_registers."""
    events = vcpu.get_vcpu_events()
    mp_state = vcpu.get_mp_state()
    maximum = vcpu.vm.check_extension(NESTED_STATE_CAPABILITY)
    msrs = {index: vcpu.get_msrs((index,)) for index in MSRS}
    return SavedVcpu(
        vcpu.get_regs(),
        vcpu.get_sregs(),
        events,
        mp_state,
        vcpu.get_debugregs(),
        vcpu.get_xcrs(),
        vcpu.get_xsave(),
        {index: values[0] for index, values in msrs.items() if values},
        vcpu.get_nested_state(maximum) if maximum else b"",
    )


def restore(vcpu: Vcpu, saved: SavedVcpu) -> None:
    """The ioctls that set it; raises KvmError where the kernel refuses.

    MSRs go before nested state (IA32_FEATURE_CONTROL 0 would leave VMX operation), SREGS too
    (CR4.VMXE, EFER.SVME); registers before it, since it may switch to L1's.
    """
    vcpu.set_sregs(saved.sregs)
    vcpu.set_msrs(saved.msrs.items())
    vcpu.set_xcrs(saved.xcr0)
    vcpu.set_xsave(saved.xsave)
    vcpu.set_debugregs(saved.debugregs)
    vcpu.set_regs(saved.regs)
    if saved.nested_state:
        room = max(vcpu.vm.check_extension(NESTED_STATE_CAPABILITY), len(saved.nested_state))
        result = vcpu.set_nested_state(saved.nested_state.ljust(room, b"\0"))
        if result:
            why = ": ".join(vcpu.entry_refusal or (f"the ioctl returned {result}",))
            raise KvmError("KVM_SET_NESTED_STATE", EINVAL, "entry_to_l2", why)
    known = saved.events.flags & VALID_EVENTS
    vcpu.set_vcpu_events(saved.events.replaced(flags=known))
    vcpu.set_mp_state(saved.mp_state)


class Ended(NamedTuple):
    """How a run ended: the machine's outcome, its serial output, and what L0 saw."""

    outcome: Outcome
    output: bytes
    exits: int
    entries: int
    checksum: int


def core_of(board: Board) -> VirtualCore:
    """The processor of a board with one vCPU."""
    core = board.processors[0]
    assert isinstance(core, VirtualCore)
    return core


def run_to_exit(board: Board, at_exit: int) -> VirtualCore:
    """Run until exit number `at_exit` was dealt with; raises InputError where the guest ends."""
    core = core_of(board)
    core.stop_at_exit = at_exit
    board.run()
    if not core.paused:
        raise InputError(f"the guest has ended after {core.l0.exits} exits, before {at_exit}")
    return core


def move_to(core: VirtualCore, kvm: Kvm) -> SavedVcpu:
    """Go on under another kernel: what was moved. Raises KvmError where it refuses."""
    before = core.l0
    saved = save(before.vcpu)
    vcpu = make_vcpu(make_vm(kvm, core.board), 0)
    restore(vcpu, saved)
    core.cpu.reset()
    after = make_run(vcpu, core)
    after.count_from(before)
    core.attach(after)
    return saved


class RunningGuest:
    """A guest on a board of the simulated KVM, with what it has printed."""

    def __init__(self, kvm: Kvm, model: Model, image: bytes, name: str) -> None:
        self.output = bytearray()
        cores = KvmCores(kvm, model)
        self.board = Board(BoardConfig(apic=cores.apic()), cores, self.output.extend)
        load(self.board, image, name, "", b"")

    def finish(self) -> Ended:
        """Run to the end."""
        outcome = self.board.run()
        l0 = core_of(self.board).l0
        return Ended(outcome, bytes(self.output), l0.exits, l0.entries, l0.checksum)


class Move(NamedTuple):
    """What became of a guest that was moved while it ran.

    `refused` is the error of the destination; `moved` and `twin` are the two runs, the twin under
    the source kernel all the way.
    """

    source: str
    destination: str
    at_exit: int
    refused: KvmError | None
    moved: Ended | None
    twin: Ended

    @property
    def lost(self) -> bool:
        """Whether the guest did something else than its twin."""
        moved, twin = self.moved, self.twin
        return moved is not None and (moved.output, moved.outcome.status) != (
            twin.output,
            twin.outcome.status,
        )

    @property
    def same_trace(self) -> bool:
        """Whether every exit after the move was that of the twin too."""
        return self.moved is not None and self.moved.checksum == self.twin.checksum


def move_running(
    image: bytes, name: str, source: Kvm, destination: Kvm, model: Model, at_exit: int
) -> Move:
    """Run a guest to an exit under `source`, and on under `destination`, beside its twin."""
    twin = RunningGuest(source, model, image, name).finish()
    guest = RunningGuest(source, model, image, name)
    core = run_to_exit(guest.board, at_exit)
    refused: KvmError | None = None
    ended: Ended | None = None
    try:
        move_to(core, destination)
    except KvmError as error:
        refused = error
    else:
        ended = guest.finish()
    return Move(source.release.name, destination.release.name, at_exit, refused, ended, twin)

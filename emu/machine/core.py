"""A processor of the board: `emu.cpu.Cpu` with its local APIC, its ports and its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from emu.cpu.code import TRANSLATE, CodeCache
from emu.cpu.cpu import Cpu
from emu.cpu.cpu import Stop as CpuStop
from emu.cpu.environment import Environment
from emu.cpu.flags import IF
from emu.cpu.models import MODELS, Model
from emu.cpu.state import CS, DS, ES, FS, GS, LDTR, SS, TR
from emu.machine.apic_model import ApicModel
from emu.machine.board import Board
from emu.machine.processor import EntryState, Stop
from emu.vmx import Vmx

if TYPE_CHECKING:
    from emu.cpu.guest_mode import Extension
    from emu.machine.lapic import LocalApic

FNINIT_CONTROL = 0x37F
SEGMENTS = {"es": ES, "cs": CS, "ss": SS, "ds": DS, "fs": FS, "gs": GS, "ldtr": LDTR, "tr": TR}
STOPS = {
    CpuStop.BUDGET: Stop.BUDGET,
    CpuStop.YIELD: Stop.YIELD,
    CpuStop.HALT: Stop.HALT,
    CpuStop.SHUTDOWN: Stop.SHUTDOWN,
}


def extension_of(cpu: Cpu) -> Extension | None:
    """The virtualization extension that the model has."""
    if cpu.model.has("SVM"):
        from emu.svm.extension import Svm  # noqa: PLC0415 - other models need none of it

        return Svm(cpu)
    return None


class Core(Environment):
    """The processor with number `index` of `board`."""

    def __init__(
        self,
        board: Board,
        index: int,
        model: Model,
        code: CodeCache,
        processor: type[Cpu] = Cpu,
    ) -> None:
        self.board, self.index, self.model = board, index, model
        self.cpu = processor(board.memory, code, model, self)
        self.cpu.extension = extension_of(self.cpu)
        self.cpu.acknowledge = self.acknowledge
        if model.has("VMX"):
            self.cpu.extension = Vmx(self.cpu)
        self.cpu.waits_for_sipi = index != 0
        self._running = False
        self._elapsed = 0
        self._shut_down = False
        self.smbase = self.cpu.smm.base

    @property
    def lapic(self) -> LocalApic:
        """Its local APIC."""
        return self.board.lapics[self.index]

    @property
    def retired(self) -> int:
        """Instructions in all, up to date outside `run`."""
        return int(self.cpu.state.retired) - self.cpu.idle

    # what the board asks of a processor

    def run(self, ticks: int) -> Stop:
        """Run until `ticks` are used up, `stop` is called, or there is nothing to do."""
        before = int(self.cpu.state.retired)
        self.board.smram.show(self.cpu.smm.active)
        self._running = True
        try:
            reason = STOPS[self.cpu.run(ticks)]
        finally:
            self._running = False
            self._elapsed = int(self.cpu.state.retired) - before
        self._shut_down = reason is Stop.SHUTDOWN
        return reason

    def elapsed(self) -> int:
        """Ticks used since the current (or else the last) `run` began."""
        return self.cpu.used() if self._running else self._elapsed

    def stop(self) -> None:
        """Come back from `run` at the next instruction boundary."""
        self.cpu.stopping = True

    def halted(self) -> bool:
        """Whether the processor waits for an event, and none that it accepts is pending."""
        return self._shut_down or self.cpu.awaits_nothing()

    def interruptible(self) -> bool:
        """Whether an interrupt of the local APIC would end its wait."""
        cpu = self.cpu
        if self._shut_down:
            return False
        if cpu.guest is not None:
            return True
        return bool(cpu.state.rflags & IF) and not cpu.waits_for_sipi

    def acknowledge(self) -> int:
        """The vector of the interrupt that is taken."""
        return self.lapic.acknowledge()

    def floating_point_error(self) -> bool:
        """FERR#; whether IGNNE# lets the processor go on."""
        return self.board.coprocessor.error()

    def floating_point_clear(self) -> None:
        """FERR# falls."""
        self.board.coprocessor.error_cleared()

    def interrupt_request(self, asserted: bool) -> None:
        """The level of the interrupt request."""
        self.cpu.interrupt_pending = asserted
        self.cpu.update_pending()

    def nmi(self) -> None:
        """A non-maskable interrupt arrived; a second one waits, a third is lost."""
        self.cpu.nmi_pending = True
        self.cpu.update_pending()

    def smi(self) -> None:
        """A system-management interrupt arrived; while one is handled, one more is latched."""
        self.cpu.smm.pending = True
        self.cpu.update_pending()

    def flush(self) -> None:
        """Memory came or went: translations do not hold any more."""
        self.cpu.flush_tlb()
        if self._running:
            self.cpu.stopping = True

    def init(self) -> None:
        """An INIT arrived."""
        self.cpu.init_pending = True
        self.cpu.update_pending()

    def sipi(self, vector: int) -> None:
        """A start-up IPI arrived: begin at `vector` << 12 if waiting for one."""
        if self.cpu.init_pending and not self._running and self.cpu.guest is None:
            self.cpu.take_event()
        self.cpu.start_up(vector)

    def set_up(self, smbase: int) -> None:
        """What firmware does on each processor: a place for SMM's state, FNINIT."""
        self.smbase = self.cpu.smm.base = smbase
        self.cpu.state.fcw, self.cpu.state.fsw, self.cpu.state.ftw = FNINIT_CONTROL, 0, 0

    def reset(self) -> None:
        """RESET: the bootstrap processor begins at the reset vector, others wait for a SIPI."""
        self.cpu.reset()
        self.cpu.waits_for_sipi = self.index != 0
        self._shut_down = False

    def enter(self, state: EntryState) -> None:
        """Begin in `state`, as a loader leaves the machine."""
        self.reset()
        cpu = self.cpu
        self.set_up(self.smbase)
        own = cpu.state
        cpu.waits_for_sipi = False
        for name, value in state.gpr.items():
            setattr(own, name, value)
        for name, segment in state.segments.items():
            seg = SEGMENTS[name]
            own.selector[seg], own.segment_base[seg] = segment.selector, segment.base
            own.segment_limit[seg], own.segment_rights[seg] = segment.limit, segment.rights
        own.rip = cpu.next_rip = state.rip
        cpu.rflags = state.rflags
        own.cr0, own.cr3, own.cr4, own.efer = state.cr0, state.cr3, state.cr4, state.efer
        own.gdtr_base, own.gdtr_limit = state.gdtr
        own.idtr_base, own.idtr_limit = state.idtr
        cpu.flush_tlb()
        cpu.refresh()

    # what the processor asks of the board

    def port_read(self, port: int, size: int) -> int:
        """IN."""
        return self.board.ports.read(port, size)

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        self.board.ports.write(port, size, value)

    def ticks(self) -> int:
        """The board's time."""
        return self.board.clock.now

    def read_apic_msr(self, index: int) -> int | None:
        """RDMSR of the local APIC."""
        return self.lapic.read_msr(index)

    def write_apic_msr(self, index: int, value: int) -> bool:
        """WRMSR of the local APIC."""
        return self.lapic.write_msr(index, value)

    def task_priority(self) -> int:
        """CR8."""
        return self.lapic.tpr >> 4

    def set_task_priority(self, value: int) -> None:
        """Write CR8."""
        self.lapic.tpr = value << 4
        self.lapic.update()

    def apic_id(self) -> int:
        """The initial APIC ID."""
        return self.lapic.apic_id

    def apic_enabled(self) -> bool:
        """Whether IA32_APIC_BASE enables the local APIC."""
        return self.lapic.enabled

    def pause_ticks(self) -> int:
        """What a PAUSE takes."""
        return self.board.config.pause_ticks

    def smm(self, active: bool) -> None:
        """The processor entered or left system-management mode: SMRAM appears or goes."""
        self.board.smram.show(active)

    def alarm(self, ticks: int, ring: Callable[[], None]) -> Callable[[], None]:
        """A timer of the board."""
        timer = self.board.clock.timer(ring)
        timer.arm(self.board.clock.now + ticks)
        return timer.cancel

    def end_of_interrupt(self) -> None:
        """EOI of the local APIC."""
        self.lapic.end_of_interrupt()

    def initialised(self) -> None:
        """The processor took an INIT: so does its local APIC; only the others wait for a SIPI."""
        self.lapic.init_reset()
        self.cpu.waits_for_sipi = self.index != 0


class Cores:
    """Makes the processors of one board: all of `model`, with decoded code in common.

    `processor` is their class; `translate` says whether hot code is translated, which no guest
    can tell.
    """

    def __init__(
        self,
        model: Model | None = None,
        processor: type[Cpu] = Cpu,
        translate: bool = TRANSLATE,
    ) -> None:
        self.translate = translate
        self.model = model if model is not None else MODELS["skylake-x"]
        self.processor = processor
        self.code: CodeCache | None = None

    def __call__(self, board: Board, index: int) -> Core:
        """The processor `index` of `board`."""
        return Core(board, index, self.model, self.code_of(board), self.processor)

    def code_of(self, board: Board) -> CodeCache:
        """The decoded code that the processors of `board` share."""
        if self.code is None or self.code.memory is not board.memory:
            self.code = CodeCache(board.memory, self.translate)
        return self.code

    def apic(self) -> ApicModel:
        """The local APIC that goes with the model."""
        return replace(
            ApicModel(),
            x2apic=self.model.has("X2APIC"),
            tsc_deadline=self.model.has("TSC_DEADLINE"),
            maxphyaddr=self.model.maxphyaddr,
        )

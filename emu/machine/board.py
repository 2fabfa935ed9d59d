"""The board: processors, memory and devices wired together as on a PC, and the run of it all."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from emu.machine import acpi, firmware, ioapic, power, testdev
from emu.machine.bus import MmioMap, PortMap
from emu.machine.clock import Clock
from emu.machine.config import BoardConfig
from emu.machine.coprocessor import Coprocessor
from emu.machine.fw_cfg import FwCfg, Key
from emu.machine.interrupts import InterruptBus
from emu.machine.ioapic import IoApic
from emu.machine.keyboard import KeyboardController
from emu.machine.lapic import LocalApic
from emu.machine.pci import PciBus
from emu.machine.pic import PicPair
from emu.machine.pit import Pit, SystemControlB
from emu.machine.power import Port92, PowerManagement, ResetControl
from emu.machine.processor import EntryState, ParkedProcessor, Processor, Segment
from emu.machine.rtc import SHUTDOWN, Rtc
from emu.machine.scheduler import Idle, Scheduler
from emu.machine.serial import Serial
from emu.machine.smi import APM_BASE, SMI_OFFSET, ApmPorts, SmiControl
from emu.machine.smram import Smram
from emu.memory import PhysicalMemory

PAGE: Final = 4096
PHYSICAL_BITS: Final = 36
IRQ_TIMER, IRQ_KEYBOARD, IRQ_SERIAL, IRQ_RTC, IRQ_MOUSE, IRQ_COPROCESSOR = 0, 1, 4, 8, 12, 13
ISA_IRQS: Final = 16
TIMER_GSI: Final = 2  # the MADT's override of IRQ 0


class Reason(Enum):
    """Why a run ended."""

    DEBUG_EXIT = "the guest wrote its exit status"
    POWER_OFF = "the guest powered off"
    RESET = "the guest reset the machine"
    TRIPLE_FAULT = "triple fault"
    PAUSED = "paused"
    LIMIT = Idle.LIMIT.value
    HALTED = Idle.HALTED.value
    NO_EVENT = Idle.NO_EVENT.value
    STORM = Idle.STORM.value
    IDLE_LIMIT = Idle.IDLE_LIMIT.value


class Outcome(NamedTuple):
    """How a run ended; `status` is that of the debug-exit device, 0 after power-off."""

    reason: Reason
    status: int | None
    instructions: int
    ticks: int


class LapicWindow:
    """A page in which local APICs answer: that of the processor that makes the access."""

    def __init__(self, board: Board, gpa: int) -> None:
        self.board, self.gpa = board, gpa

    def mmio_read(self, offset: int, size: int) -> int:
        """A load; all ones when the accessing processor's local APIC is elsewhere or disabled."""
        lapic = self.board.lapics[self.board.scheduler.current]
        if lapic.address != self.gpa:
            return (1 << 8 * size) - 1
        return lapic.mmio_read(offset, size)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """A store."""
        lapic = self.board.lapics[self.board.scheduler.current]
        if lapic.address == self.gpa:
            lapic.mmio_write(offset, size, value)


class Board:
    """A machine. `make_processor` is called with the board and an index for each processor.

    `transmit` gets the bytes that the guest writes to its serial port.
    """

    def __init__(
        self,
        config: BoardConfig | None = None,
        make_processor: Callable[[Board, int], Processor] | None = None,
        transmit: Callable[[bytes], None] | None = None,
        memory: PhysicalMemory | None = None,
    ) -> None:
        self.config = config = config or BoardConfig()
        self.clock = Clock(config.tsc_hz)
        self.ports = PortMap(self.clock, config.port_ticks)
        self.mmio = MmioMap(self.clock, config.mmio_ticks)
        self.memory = memory or PhysicalMemory(1 << PHYSICAL_BITS)
        for gpa, size in firmware.ram_ranges(config.memory):
            self.memory.add_ram(gpa, size)
        self.memory.add_rom(firmware.OPTION_ROMS, firmware.SHADOW - firmware.OPTION_ROMS)
        self.memory.add_device(0, self.memory.pages * PAGE, self.mmio)
        low_end = min(config.memory, firmware.LOW_MEMORY_END)
        self.smram = Smram(self.memory, low_end, self._flush)
        self.outcome: tuple[Reason, int | None] | None = None
        self.asleep = False
        self._lapic_pages: dict[int, int] = {}
        make = make_processor or _parked
        self.processors: list[Processor] = [make(self, i) for i in range(config.processors)]
        self.scheduler = Scheduler(
            self.clock,
            self.processors,
            config.quantum,
            config.idle_limit * config.tsc_hz,
            self._triple_fault,
        )
        self._add_interrupts()
        self._add_devices(transmit or _lost)
        self._add_fw_cfg()
        self._add_firmware()

    # wiring

    def _add_interrupts(self) -> None:
        self.bus = InterruptBus()
        self.bus.taken = self.scheduler.wake
        self.pic = PicPair(self._intr)
        self.ioapic = IoApic(self.bus)
        self.lapics = [
            LocalApic(i, self.clock, self.bus, core, self.config.apic, self.pic.acknowledge)
            for i, core in enumerate(self.processors)
        ]
        for lapic in self.lapics:
            lapic.moved = self._lapic_moved
            self._lapic_moved(None, lapic.address)
        self.mmio.add(ioapic.DEFAULT_ADDRESS, PAGE, self.ioapic)

    def _add_devices(self, transmit: Callable[[bytes], None]) -> None:
        config, clock, ports = self.config, self.clock, self.ports
        self.pit = Pit(clock, self.isa_line(IRQ_TIMER))
        self.rtc = Rtc(
            clock,
            self.isa_line(IRQ_RTC),
            config.epoch,
            firmware.cmos(config.memory, config.processors),
        )
        self.serial = Serial(transmit, self.isa_line(IRQ_SERIAL))
        self.power = PowerManagement(clock, self, self.isa_line(acpi.SCI_IRQ))
        self.rtc.alarmed = lambda: self.power.event(power.RTC_STATUS)
        keyboard = KeyboardController(
            self.reset, self.isa_line(IRQ_KEYBOARD), self.isa_line(IRQ_MOUSE)
        )
        self.smi_control = SmiControl(self.smi)
        self.coprocessor = Coprocessor(self.isa_line(IRQ_COPROCESSOR))
        self.pci = PciBus(self.smram.bridge)
        for first, count, device in self.pic.ports():
            ports.add(first, count, device)
        ports.add(0x40, 4, self.pit)
        ports.add(0x61, 1, SystemControlB(self.pit))
        ports.add(0x60, 1, keyboard)
        ports.add(0x64, 1, keyboard, base=0x60)
        ports.add(0x70, 2, self.rtc)
        ports.add(0x92, 1, Port92(self))
        ports.add(0xF0, 1, self.coprocessor)
        ports.add(0x3F8, 8, self.serial)
        ports.add(power.PM_BASE, 12, self.power, width=4)
        ports.add(power.PM_BASE + SMI_OFFSET, 8, self.smi_control, width=4)
        ports.add(APM_BASE, 2, ApmPorts(self.smi_control))
        # the bytes of CONFIG_ADDRESS are ports of their own; CF9H is the reset control
        ports.add(0xCF8, 1, self.pci, width=4)
        ports.add(0xCF9, 1, ResetControl(self))
        ports.add(0xCFC, 4, self.pci, width=4, base=0xCF8)
        if config.test_device:
            self._add_test_devices()

    def _add_test_devices(self) -> None:
        ports, echo = self.ports, testdev.EchoPorts()
        ports.add(0xE0, 4, echo, width=4)
        ports.add(0xE4, 4, testdev.FlushPage(), width=4)
        ports.add(0xE8, 4, echo)
        ports.add(0xF4, 4, testdev.DebugExit(self.debug_exit), width=4)
        ports.add(0x2000, testdev.LINES, testdev.IrqLines(self.set_line), width=4)
        ports.add(0x8900, 1, testdev.ShutdownPort(self.power_off))
        self.mmio.add(testdev.WINDOW, testdev.WINDOW_SIZE, testdev.MemoryWindow())

    def _add_fw_cfg(self) -> None:
        self.fw_cfg = FwCfg(self.memory)
        config = self.config
        numbers = (
            (Key.RAM_SIZE, config.memory, 8),
            (Key.NOGRAPHIC, 1, 2),
            (Key.NB_CPUS, config.processors, 2),
            (Key.MAX_CPUS, config.processors, 2),
            (Key.BOOT_MENU, 0, 2),
        )
        for key, value, size in numbers:
            self.fw_cfg.add_number(key, value, size)
        self.fw_cfg.add(Key.UUID, bytes(16))
        e820 = b"".join(
            r.gpa.to_bytes(8, "little")
            + r.size.to_bytes(8, "little")
            + r.kind.to_bytes(4, "little")
            for r in self.memory_map
        )
        self.fw_cfg.add_file("etc/e820", e820)
        self.ports.add(0x510, 12, self.fw_cfg, width=4)

    def _add_firmware(self) -> None:
        """Put tables, vectors and ROM in place, initialise devices as power-on self-test does."""
        self.acpi = acpi.build(firmware.TABLES, range(self.config.processors))
        for images in (self.acpi.images, firmware.low_memory(), firmware.rom()):
            for gpa, image in images.items():
                self.memory.load(gpa, image)
        for port, value in firmware.POST_WRITES:
            self.ports.write(port, 1, value)
        self.lapics[0].virtual_wire()
        self._set_up_smm()

    def _set_up_smm(self) -> None:
        """Give each processor a state-save area of its own in SMRAM, and a handler: RSM."""
        self.smram.open(True)
        bases = range(firmware.SMBASE, firmware.SMBASE_END, firmware.SMBASE_STEP)
        for processor, base in zip(self.processors, bases, strict=False):
            self.memory.load(base + firmware.SMI_ENTRY, firmware.SMI_HANDLER)
            processor.set_up(base)
        self.smram.open(False)

    @property
    def memory_map(self) -> list[firmware.MemoryRange]:
        """The system address map (E820)."""
        return firmware.memory_map(self.config.memory)

    def _lapic_moved(self, before: int | None, after: int | None) -> None:
        """Keep a window wherever a processor's local APIC is mapped."""
        pages = self._lapic_pages
        if before is not None:
            pages[before] -= 1
            if not pages[before]:
                del pages[before]
                self.mmio.remove(before, PAGE)
        if after is not None:
            if after not in pages:
                self.mmio.add(after, PAGE, LapicWindow(self, after))
            pages[after] = pages.get(after, 0) + 1

    # interrupts

    def _intr(self, asserted: bool) -> None:
        """INTR of the interrupt controllers: LINT0 of every local APIC."""
        for lapic in self.lapics:
            lapic.pin(0, asserted)

    def set_line(self, gsi: int, asserted: bool) -> None:
        """A global system interrupt changes its level, at the I/O APIC and, below 16, the 8259s."""
        if gsi < ISA_IRQS:
            self.pic.set_line(gsi, asserted)
        self.ioapic.set_line(gsi, asserted)

    def isa_line(self, irq: int) -> Callable[[bool], None]:
        """The line of ISA interrupt `irq`, with the timer on I/O APIC input 2."""
        pin = TIMER_GSI if irq == IRQ_TIMER else irq

        def drive(asserted: bool) -> None:
            self.pic.set_line(irq, asserted)
            self.ioapic.set_line(pin, asserted)

        return drive

    def nmi(self) -> None:
        """The NMI button: LINT1 of every local APIC, unless port 70H masks it."""
        if self.rtc.nmi_masked:
            return
        for lapic in self.lapics:
            lapic.pin(1, True)
            lapic.pin(1, False)

    def smi(self) -> None:
        """SMI#: every processor gets it."""
        for processor in self.processors:
            processor.smi()

    def _flush(self) -> None:
        """Memory came or went: processors forget their translations."""
        for processor in self.processors:
            processor.flush()

    # power

    def _end(self, reason: Reason, status: int | None = None) -> None:
        if self.outcome is None:
            self.outcome = (reason, status)
        self.scheduler.stop()

    def debug_exit(self, status: int) -> None:
        """The debug-exit device was written."""
        self._end(Reason.DEBUG_EXIT, status)

    def pause(self) -> None:
        """End the run at the next instruction boundary; another `run` goes on from there."""
        self._end(Reason.PAUSED)

    def power_off(self) -> None:
        """S5, or the shutdown port."""
        self._end(Reason.POWER_OFF, 0)

    def power_button(self) -> None:
        """The power button is pressed."""
        self.power.event(power.POWER_BUTTON)

    def _triple_fault(self, index: int) -> None:  # noqa: ARG002 - any processor's ends the machine
        self._end(Reason.TRIPLE_FAULT)

    def reset(self) -> None:
        """A reset by the guest: it runs on where firmware would resume it, or else the run ends."""
        if self.rtc.memory[SHUTDOWN] in firmware.WARM_RESET_CODES:
            self._reset_devices()
        else:
            self._end(Reason.RESET)

    def _reset_devices(self) -> None:
        """RESET of processors and interrupt controllers; memory keeps what it holds."""
        self.ioapic.reset()
        self.pic.reset()
        self.serial.reset()
        self.power.reset()
        self.smi_control.reset()
        self.coprocessor.reset()
        self.smram.reset()
        for lapic in self.lapics:
            lapic.reset()
        for processor in self.processors:
            processor.reset()
        for port, value in firmware.POST_WRITES:
            self.ports.write(port, 1, value)
        self.lapics[0].virtual_wire()
        self._set_up_smm()
        self.processors[self.scheduler.current].stop()

    def sleep(self) -> None:
        """S3: processors lose power until a wake event, then one begins at the waking vector."""
        self.asleep = True
        self.scheduler.stop()

    def _wake(self) -> bool:
        """Go on to the wake event and resume; False when none comes within the idle limit."""
        limit = self.clock.now + self.config.idle_limit * self.clock.hz
        while not self.power.wakes():
            event = self.clock.next_event()
            if event is None or event > limit:
                self._end(Reason.NO_EVENT)
                return False
            self.clock.base = max(event, self.clock.base)
            self.clock.run_due()
        self.asleep = False
        status = self.power.status | power.WAKE_STATUS
        self._reset_devices()
        self.power.status = status
        vector = int.from_bytes(self.memory.read(self.acpi.facs + 12, 4), "little")
        self.processors[0].enter(waking_state(vector))
        return True

    # running

    def enter(self, state: EntryState) -> None:
        """The bootstrap processor begins in `state`; the others wait for a start-up IPI."""
        self.processors[0].enter(state)

    def run(self, max_instructions: int | None = None, max_ticks: int | None = None) -> Outcome:
        """Run until the guest ends the machine, nothing can happen any more, or a limit."""
        self.outcome = None
        idle: Idle | None = None
        while self.outcome is None and idle is None:
            idle = self.scheduler.run(max_instructions, max_ticks)
            if self.asleep and not self._wake():
                break
        reason, status = self.outcome or (Reason[idle.name] if idle else Reason.HALTED, None)
        return Outcome(reason, status, self.scheduler.retired, self.clock.now)


def waking_state(vector: int) -> EntryState:
    """Real mode at the waking vector. ACPI Specification, Firmware ACPI Control Structure."""
    code = Segment(vector >> 4 & 0xFFFF, vector & 0xF_FFF0, 0xFFFF, 0x9B)
    return EntryState(rip=vector & 0xF, segments={"cs": code})


def _parked(board: Board, index: int) -> Processor:  # noqa: ARG001 - a factory as any other
    return ParkedProcessor(index)


def _lost(data: bytes) -> None:
    """Output that nobody reads."""

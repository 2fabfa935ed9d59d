"""The local APIC: xAPIC and x2APIC. SDM Vol. 3, Advanced Programmable Interrupt Controller (APIC).

The sets IRR, ISR and TMR are 256-bit integers. An access that the architecture answers with #GP(0)
returns None (a read) or False (a write); the processor raises the exception.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from emu.machine.apic_model import ApicModel, Core
from emu.machine.apic_timer import ApicTimer
from emu.machine.clock import Clock
from emu.machine.interrupts import (
    BROADCAST_X2APIC,
    BROADCAST_XAPIC,
    InterruptBus,
    Message,
    ipi,
)
from emu.machine.lapic_registers import (
    BASE_BSP,
    BASE_EN,
    BASE_EXTD,
    DEFAULT_BASE,
    IA32_APIC_BASE,
    IA32_TSC_DEADLINE,
    ICR_STATUS,
    LVT_LEVEL,
    LVT_MASKED,
    LVT_READ_ONLY,
    LVT_REMOTE_IRR,
    LVTS,
    REGISTERS,
    SHORTHAND_DELIVERY,
    SVR_ENABLED,
    SVR_NO_EOI_BROADCAST,
    X2APIC_ICR_RESERVED,
    X2APIC_MSRS,
    ApicError,
    ApicRegister,
    Delivery,
    Shorthand,
    TimerMode,
)
from emu.machine.registers import RO, WO

U32 = 0xFFFF_FFFF
FIRST_LEGAL_VECTOR = 16


class LocalApic:
    """One local APIC, between the interrupt bus, the pins LINT0 and LINT1, and its processor."""

    def __init__(
        self,
        apic_id: int,
        clock: Clock,
        bus: InterruptBus,
        core: Core,
        model: ApicModel | None = None,
        intack: Callable[[], int] | None = None,
    ) -> None:
        self.apic_id = apic_id
        self.clock, self.bus, self.core = clock, bus, core
        self.model = model or ApicModel()
        self.intack = intack  # the vector of an external interrupt controller
        self.moved: Callable[[int | None, int | None], None] | None = None  # from, to
        self.registers: dict[str, int] = {}
        self.irr = self.isr = self.tmr = 0
        self.tpr = 0
        self.icr = 0
        self._errors = ApicError(0)
        self._extint = False  # latched from the interrupt bus, not from LINT0
        self._lint = [False, False]
        self._requested = False
        self.timer = ApicTimer(clock, self.model.bus_ratio, lambda: self._local("LVT_TIMER"))
        self.base = DEFAULT_BASE | BASE_EN | (BASE_BSP if apic_id == 0 else 0)
        self._present = {
            row.offset: row for row in REGISTERS if row.name != "LVT_CMCI" or self.model.cmci
        }
        self.lvts = tuple(name for name in LVTS if name != "LVT_CMCI" or self.model.cmci)
        self._readers: dict[str, Callable[[], int]] = {
            "ID": lambda: self.apic_id if self.x2apic else self.registers["ID"],
            "VERSION": lambda: self.model.version,
            "TPR": lambda: self.tpr,
            "PPR": lambda: self.processor_priority,
            "LDR": lambda: self.x2apic_ldr if self.x2apic else self.registers["LDR"],
            "CURRENT_COUNT": lambda: self.timer.current,
            "INITIAL_COUNT": lambda: self.timer.initial,
        }
        self._writers: dict[str, Callable[[int], None]] = {
            "TPR": self._write_tpr,
            "EOI": lambda _: self.end_of_interrupt(),
            "ICR": self._write_icr,
            "SELF_IPI": lambda vector: self._send(vector | Shorthand.SELF << 18, 0),
            "ESR": self._write_esr,
            "SVR": self._write_svr,
            "INITIAL_COUNT": self.timer.set_initial,
            "DIVIDE": self._write_divide,
            "DFR": self._write_dfr,
            **{lvt: functools.partial(self._write_lvt, lvt) for lvt in self.lvts},
        }
        self._clear()
        bus.lapics.append(self)

    # state

    @property
    def enabled(self) -> bool:
        """Whether IA32_APIC_BASE enables it; CPUID.01H:EDX.APIC[bit 9] follows."""
        return bool(self.base & BASE_EN)

    @property
    def x2apic(self) -> bool:
        """Whether it is in x2APIC mode."""
        return bool(self.base & BASE_EXTD)

    @property
    def address(self) -> int | None:
        """Where its registers are mapped; None when disabled or in x2APIC mode."""
        if self.base & (BASE_EN | BASE_EXTD) != BASE_EN:
            return None
        return self.base >> 12 << 12

    @property
    def software_enabled(self) -> bool:
        """Whether it accepts interrupts. SDM Vol. 3, Local APIC State After Software Disabled."""
        return self.enabled and bool(self.registers["SVR"] & SVR_ENABLED)

    def _clear(self) -> None:
        self.registers = {row.name: row.reset for row in REGISTERS}
        self.registers["ID"] = self.apic_id << 24 & U32
        self.irr = self.isr = self.tmr = 0
        self.tpr = self.icr = 0
        self._errors = ApicError(0)
        self._extint = False
        self.timer.reset()

    def reset(self) -> None:
        """As after power-up or RESET. SDM Vol. 3, Local APIC State After Power-Up or Reset."""
        before = self.address
        self.base = DEFAULT_BASE | BASE_EN | (BASE_BSP if self.apic_id == 0 else 0)
        self._clear()
        self._relocated(before)
        self.update()

    def init_reset(self) -> None:
        """As after INIT, which keeps mode and ID. SDM Vol. 3, Local APIC State After INIT Reset."""
        identity = self.registers["ID"]
        self._clear()
        self.registers["ID"] = identity
        self.update()

    def virtual_wire(self) -> None:
        """LINT0 to the interrupt controller, LINT1 to NMI, as firmware leaves the processors."""
        self.registers.update(
            SVR=SVR_ENABLED | 0x0F,
            LVT_LINT0=Delivery.EXTINT << 8,
            LVT_LINT1=Delivery.NMI << 8,
        )
        self.update()

    def _relocated(self, before: int | None) -> None:
        if self.moved is not None and before != self.address:
            self.moved(before, self.address)

    # MSRs

    def read_msr(self, index: int) -> int | None:
        """RDMSR of one of its MSRs; None: #GP(0)."""
        if index == IA32_APIC_BASE:
            return self.base
        if index == IA32_TSC_DEADLINE:
            return self.timer.deadline if self.model.tsc_deadline else None
        row = self._present.get((index - X2APIC_MSRS.start) << 4)
        if not self.x2apic or row is None or row.x2apic in (None, WO):
            return None
        if row.name == "ICR":
            return self.icr
        return self._read(row)

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR of one of its MSRs; False: #GP(0)."""
        if index == IA32_APIC_BASE:
            return self._write_base(value)
        if index == IA32_TSC_DEADLINE:
            if self.model.tsc_deadline:
                self.timer.set_deadline(value)
            return self.model.tsc_deadline
        row = self._present.get((index - X2APIC_MSRS.start) << 4)
        if not self.x2apic or row is None or row.x2apic in (None, RO):
            return False
        if row.name == "ICR":
            if value & X2APIC_ICR_RESERVED:
                return False
            self.icr = value & ~ICR_STATUS
            self._send(value & U32, value >> 32)
            return True
        allowed = self._writable(row) | (LVT_READ_ONLY if row.name in LVTS else 0)
        if value & ~allowed:
            return False
        self._write(row, value)
        return True

    def _write_base(self, value: int) -> bool:
        """SDM Vol. 3, Local APIC Status and Location; x2APIC State Transitions."""
        reserved = ~((1 << self.model.maxphyaddr) - 1) | 0x2FF
        if not self.model.x2apic:
            reserved |= BASE_EXTD
        mode, old = value & (BASE_EN | BASE_EXTD), self.base & (BASE_EN | BASE_EXTD)
        if value & reserved or mode == BASE_EXTD:
            return False
        if (old, mode) in ((BASE_EN | BASE_EXTD, BASE_EN), (0, BASE_EN | BASE_EXTD)):
            return False
        before = self.address
        self.base = value
        if old and not mode:
            self._clear()
        elif mode & BASE_EXTD and not old & BASE_EXTD:
            self.registers["ID"] = self.apic_id << 24 & U32
            self.icr = self.registers["ICR"]
        self._relocated(before)
        self.update()
        return True

    # xAPIC window

    def mmio_read(self, offset: int, size: int) -> int:
        """A load from its page. Registers are 32 bits wide, 16 bytes apart."""
        row = self._present.get(offset & ~0xF)
        if row is None or row.xapic is None:
            self._error(ApicError.ILLEGAL_REGISTER)
            return 0
        value = 0 if row.xapic is WO else self._read(row)
        return value >> 8 * (offset & 0xF) & (1 << 8 * size) - 1

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """A store to its page; what is not 32 bits wide and 16-byte aligned is lost."""
        if size != 4 or offset & 0xF:
            return
        row = self._present.get(offset)
        if row is None or row.xapic is None:
            self._error(ApicError.ILLEGAL_REGISTER)
        elif row.xapic is not RO:
            self._write(row, value)

    # registers

    def _writable(self, row: ApicRegister) -> int:
        if row.name == "LVT_TIMER" and self.model.tsc_deadline:
            return row.writable | TimerMode.TSC_DEADLINE << 17
        if row.name == "SVR" and self.model.suppress_eoi_broadcast:
            return row.writable | SVR_NO_EOI_BROADCAST
        return row.writable

    def _read(self, row: ApicRegister) -> int:
        name = row.name
        if row.offset in range(0x100, 0x280):
            bank = (self.isr, self.tmr, self.irr)[(row.offset >> 7) - 2]
            return bank >> 2 * (row.offset & 0x70) & U32
        reader = self._readers.get(name)
        return self.registers[name] if reader is None else reader()

    @property
    def x2apic_ldr(self) -> int:
        """SDM Vol. 3, Deriving Logical x2APIC ID from the Local x2APIC ID."""
        return (self.apic_id >> 4) << 16 & U32 | 1 << (self.apic_id & 0xF)

    def _write(self, row: ApicRegister, value: int) -> None:
        name = row.name
        value &= self._writable(row)
        writer = self._writers.get(name)
        if writer is None:
            self.registers[name] = value
        else:
            writer(value)

    def _write_tpr(self, value: int) -> None:
        self.tpr = value
        self.update()

    def _write_icr(self, value: int) -> None:
        self.registers["ICR"] = value
        self._send(value, self.registers["ICR_HIGH"] >> 24)

    def _write_esr(self, value: int) -> None:  # noqa: ARG002 - any write latches the errors
        self.registers["ESR"], self._errors = self._errors, ApicError(0)

    def _write_dfr(self, value: int) -> None:
        self.registers["DFR"] = value | 0x0FFF_FFFF

    def _write_divide(self, value: int) -> None:
        self.registers["DIVIDE"] = value
        self.timer.set_divide(value)

    def _write_svr(self, value: int) -> None:
        self.registers["SVR"] = value
        if not value & SVR_ENABLED:
            for name in self.lvts:
                self.registers[name] |= LVT_MASKED
        self.update()

    def _write_lvt(self, name: str, value: int) -> None:
        kept = self.registers[name] & LVT_READ_ONLY
        if not value & LVT_LEVEL:
            kept &= ~LVT_REMOTE_IRR
        if not self.registers["SVR"] & SVR_ENABLED:
            value |= LVT_MASKED
        self.registers[name] = value | kept
        if name == "LVT_TIMER":
            self.timer.set_mode(TimerMode(value >> 17 & 3))
        elif name in ("LVT_LINT0", "LVT_LINT1"):
            pin = int(name[-1])
            if self._lint[pin] and value & LVT_LEVEL and not value & LVT_MASKED:
                self._level_pin(name)
        self.update()

    # priorities

    @property
    def processor_priority(self) -> int:
        """PPR. SDM Vol. 3, Task and Processor Priorities."""
        serviced = self.isr.bit_length() - 1 & 0xF0 if self.isr else 0
        return self.tpr if self.tpr & 0xF0 >= serviced else serviced

    @property
    def arbitration_priority(self) -> tuple[int, int]:
        """The order in which lowest-priority delivery chooses."""
        return self.processor_priority, self.apic_id

    @property
    def cr8(self) -> int:
        """CR8: the priority class of the TPR."""
        return self.tpr >> 4

    @cr8.setter
    def cr8(self, value: int) -> None:
        self.tpr = (value & 0xF) << 4
        self.update()

    def pending_vector(self) -> int | None:
        """The vector that would be delivered next; None when none is above the priority."""
        if not self.irr or not self.software_enabled:
            return None
        vector = self.irr.bit_length() - 1
        return vector if vector & 0xF0 > self.processor_priority & 0xF0 else None

    def external_request(self) -> bool:
        """Whether a vector must be asked of the external interrupt controller."""
        if not self.enabled:
            return self._lint[0]  # LINT0 is the INTR pin
        lint0 = self.registers["LVT_LINT0"]
        by_pin = self._lint[0] and not lint0 & LVT_MASKED and lint0 >> 8 & 7 == Delivery.EXTINT
        return by_pin or self._extint

    def update(self) -> None:
        """Tell the processor whether an interrupt is requested."""
        requested = self.pending_vector() is not None or self.external_request()
        if requested != self._requested:
            self._requested = requested
            self.core.interrupt_request(requested)

    def acknowledge(self) -> int:
        """The processor takes an interrupt: its vector; the spurious one when it has gone."""
        if self.external_request() and self.intack is not None:
            self._extint = False
            vector = self.intack()
            self.update()
            return vector
        pending = self.pending_vector()
        if pending is None:
            return self.registers["SVR"] & 0xFF
        self.irr &= ~(1 << pending)
        self.isr |= 1 << pending
        self.update()
        return pending

    def end_of_interrupt(self) -> None:
        """SDM Vol. 3, Signaling Interrupt Servicing Completion."""
        if not self.isr:
            return
        vector = self.isr.bit_length() - 1
        self.isr &= ~(1 << vector)
        if self.tmr >> vector & 1:
            for name in ("LVT_LINT0", "LVT_LINT1"):
                self._level_pin_eoi(name, vector)
            if not self.registers["SVR"] & SVR_NO_EOI_BROADCAST:
                self.bus.end_of_interrupt(vector)
        self.update()

    # arriving messages

    def matches(self, message: Message) -> bool:
        """Whether it is addressed. SDM Vol. 3, Determining IPI Destination."""
        if not self.enabled:
            return False
        if message.broadcast:
            return True
        destination = message.destination
        if not message.logical:
            if self.x2apic:
                return destination == self.apic_id
            return destination == self.registers["ID"] >> 24
        if self.x2apic:
            ldr = self.x2apic_ldr
            return destination >> 16 == ldr >> 16 and bool(destination & ldr & 0xFFFF)
        logical_id = self.registers["LDR"] >> 24
        if destination >> 8:
            return False
        if self.registers["DFR"] >> 28 == 0xF:
            return bool(destination & logical_id)
        same_cluster = destination >> 4 == logical_id >> 4
        return same_cluster and bool(destination & logical_id & 0xF)

    def accept(self, message: Message) -> bool:
        """Take a message that is addressed to it; whether it was accepted."""
        delivery = message.delivery
        if delivery in (Delivery.FIXED, Delivery.LOWEST_PRIORITY):
            return self.post(message.vector, message.level)
        if delivery == Delivery.NMI:
            self.core.nmi()
        elif delivery == Delivery.SMI:
            self.core.smi()
        elif delivery == Delivery.INIT:
            self.core.init()
        elif delivery == Delivery.STARTUP:
            self.core.sipi(message.vector)
        elif delivery == Delivery.EXTINT:
            self._extint = True
            self.update()
        return True

    def post(self, vector: int, level: bool = False) -> bool:
        """Set `vector` in the IRR and its trigger mode in the TMR."""
        if not self.software_enabled:
            return False
        if vector < FIRST_LEGAL_VECTOR:
            self._error(ApicError.RECEIVE_ILLEGAL_VECTOR)
            return False
        bit = 1 << vector
        self.irr |= bit
        self.tmr = self.tmr | bit if level else self.tmr & ~bit
        self.update()
        return True

    # local sources

    def _error(self, error: ApicError) -> None:
        self._errors |= error
        entry = self.registers["LVT_ERROR"]
        # an illegal vector in the error entry itself is not reported again
        if not entry & LVT_MASKED and entry & 0xFF >= FIRST_LEGAL_VECTOR:
            self.post(entry & 0xFF)

    def _local(self, name: str) -> None:
        """An interrupt of the local vector table's entry `name`."""
        entry = self.registers[name]
        if entry & LVT_MASKED:
            return
        delivery = Delivery(entry >> 8 & 7)
        if name in ("LVT_TIMER", "LVT_ERROR") or delivery == Delivery.FIXED:
            self.post(entry & 0xFF)
        elif delivery in (Delivery.NMI, Delivery.SMI, Delivery.INIT):
            self.accept(Message(0, delivery))

    def performance_interrupt(self) -> None:
        """A performance counter overflowed: its entry is delivered and then masked."""
        self._local("LVT_PMC")
        self.registers["LVT_PMC"] |= LVT_MASKED

    def pin(self, number: int, asserted: bool) -> None:
        """LINT0 or LINT1 changes its level."""
        rising = asserted and not self._lint[number]
        self._lint[number] = asserted
        name = f"LVT_LINT{number}"
        if not self.enabled:
            if number == 1 and rising:
                self.core.nmi()  # LINT1 is the NMI pin
        elif asserted and self.registers[name] & LVT_LEVEL:
            self._level_pin(name)
        elif rising:
            self._local(name)
        self.update()

    def _level_pin(self, name: str) -> None:
        entry = self.registers[name]
        if entry >> 8 & 7 != Delivery.FIXED:
            self._local(name)
        elif not entry & (LVT_MASKED | LVT_REMOTE_IRR) and self.post(entry & 0xFF, level=True):
            self.registers[name] |= LVT_REMOTE_IRR

    def _level_pin_eoi(self, name: str, vector: int) -> None:
        entry = self.registers[name]
        if entry & LVT_REMOTE_IRR and entry & 0xFF == vector:
            self.registers[name] = entry & ~LVT_REMOTE_IRR
            if self._lint[int(name[-1])]:
                self._level_pin(name)

    # sending

    def _send(self, low: int, destination: int) -> None:
        """Send the IPI that the ICR describes."""
        message = ipi(low, destination, BROADCAST_X2APIC if self.x2apic else BROADCAST_XAPIC)
        if message is None:
            return
        if message.delivery <= Delivery.LOWEST_PRIORITY and message.vector < FIRST_LEGAL_VECTOR:
            self._error(ApicError.SEND_ILLEGAL_VECTOR)
            return
        shorthand = Shorthand(low >> 18 & 3)
        if shorthand == Shorthand.NONE:
            self.bus.send(message)
        elif message.delivery in SHORTHAND_DELIVERY[shorthand]:
            self.bus.deliver(message, self._shorthand_targets(shorthand))

    def _shorthand_targets(self, shorthand: Shorthand) -> list[LocalApic]:
        if shorthand == Shorthand.SELF:
            return [self]
        return [
            apic
            for apic in self.bus.lapics
            if apic.enabled and (apic is not self or shorthand == Shorthand.ALL_INCLUDING_SELF)
        ]

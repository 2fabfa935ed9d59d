"""The virtual APIC: page, registers, virtual interrupts. SDM Vol. 3, APIC Virtualization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu.guest_mode import EventKind
from emu.cpu.system.msrs import Refused
from emu.vmx.bits import P1, P2
from emu.vmx.exits import Record
from vmcs.vmx.exit_qualification import APIC_ACCESS
from vmcs.vmx.exit_reasons import ExitReason

if TYPE_CHECKING:
    from emu.vmx.guest import NonRoot

TPR, PPR, EOI, ISR, IRR, ICR_LOW, ICR_HIGH, SELF_IPI = (
    0x80, 0xA0, 0xB0, 0x100, 0x200, 0x300, 0x310, 0x3F0,
)  # fmt: skip
X2APIC: Final = range(0x800, 0x900)
# registers whose accesses APIC-register virtualization answers. SDM Vol. 3, Virtualizing Reads
# from the APIC-Access Page; Virtualizing Writes to the APIC-Access Page
READ: Final = frozenset(
    (0x20, 0x30, TPR, EOI, 0xD0, 0xE0, 0xF0, *range(0x100, 0x290, 0x10), ICR_LOW, ICR_HIGH,
     *range(0x320, 0x390, 0x10), 0x3E0)
)  # fmt: skip
WRITTEN: Final = frozenset(
    (0x20, TPR, EOI, 0xD0, 0xE0, 0xF0, 0x280, ICR_LOW, ICR_HIGH, 0x320, 0x330, 0x340, 0x350, 0x360,
     0x370, 0x380, 0x3E0)
)  # fmt: skip
DATA_READ, DATA_WRITE, FETCH, IN_DELIVERY = range(4)
# of ICR_LOW: what an IPI to oneself that is virtualized must have clear, and its shorthand
SELF_CLEAR, SHORTHAND, SELF = 0xFFF3_B700, 0xC_0000, 0x4_0000
NO_PAGE: Final = -1


class VirtualApic:
    """What a guest sees of its APIC. `recognized`: a virtual interrupt is pending."""

    def __init__(self, guest: NonRoot) -> None:
        self.guest = guest
        self.recognized = False
        self.page = 0
        self.access_page = NO_PAGE

    def begin(self) -> None:
        """VM entry."""
        guest, vmx = self.guest, self.guest.vmx
        self.recognized = False
        self.access_page = NO_PAGE
        if not guest.proc & P1.USE_TPR_SHADOW:
            if guest.proc2 & P2.VIRTUALIZE_APIC_ACCESSES:
                self.trap()
            return
        self.page = vmx["VIRTUAL_APIC_PAGE_ADDR"]
        if guest.proc2 & P2.VIRTUALIZE_APIC_ACCESSES:
            self.trap()
        if self.delivers:
            self.update_processor_priority()
            self.evaluate()
        elif self.access_page != NO_PAGE:
            self.check_threshold()

    def trap(self) -> None:
        """Let accesses to the APIC-access page come here."""
        self.access_page = self.guest.vmx["APIC_ACCESS_ADDR"] >> 12
        self.guest.cpu.trap_page(self.access_page, self)

    def end(self) -> None:
        """VM exit."""
        if self.access_page != NO_PAGE:
            self.guest.cpu.trap_page(None)
            self.access_page = NO_PAGE

    @property
    def delivers(self) -> bool:
        """Virtual-interrupt delivery."""
        return bool(self.guest.proc2 & P2.VIRTUAL_INTERRUPT_DELIVERY)

    @property
    def has_registers(self) -> bool:
        """APIC-register virtualization."""
        return bool(self.guest.proc2 & P2.APIC_REGISTER_VIRTUALIZATION)

    # the virtual-APIC page

    def register(self, offset: int, size: int = 4) -> int:
        """A register of the virtual-APIC page."""
        return int.from_bytes(self.guest.cpu.memory.read(self.page + offset, size), "little")

    def set_register(self, offset: int, value: int, size: int = 4) -> None:
        """Write a register of the virtual-APIC page."""
        data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        self.guest.cpu.memory.write(self.page + offset, data)

    def vectors(self, offset: int) -> int:
        """The 256 bits of VISR or VIRR."""
        return sum(self.register(offset + 16 * i) << 32 * i for i in range(8))

    def set_vector(self, offset: int, vector: int, value: bool) -> None:
        """Set or clear a bit of VISR or VIRR."""
        place, bit = offset + vector // 32 * 16, 1 << vector % 32
        old = self.register(place)
        self.set_register(place, old | bit if value else old & ~bit)

    @property
    def requesting(self) -> int:
        """RVI: the low byte of the guest interrupt status."""
        return self.guest.vmx["GUEST_INTR_STATUS"] & 0xFF

    @property
    def servicing(self) -> int:
        """SVI: its high byte."""
        return self.guest.vmx["GUEST_INTR_STATUS"] >> 8

    def set_status(self, requesting: int, servicing: int) -> None:
        """Write the guest interrupt status."""
        self.guest.vmx["GUEST_INTR_STATUS"] = requesting | servicing << 8

    # virtual interrupts

    def priority_changed(self) -> None:
        """TPR virtualization."""
        if self.delivers:
            self.update_processor_priority()
            self.evaluate()
        else:
            self.check_threshold()

    def check_threshold(self) -> None:
        """An exit after the instruction when bits 7:4 of VTPR are below the TPR threshold."""
        if self.register(TPR) >> 4 & 15 < self.guest.vmx["TPR_THRESHOLD"] & 15:
            self.leave_after(ExitReason.TPR_BELOW_THRESHOLD)

    def update_processor_priority(self) -> None:
        """PPR virtualization."""
        priority, servicing = self.register(TPR) & 0xFF, self.servicing
        self.set_register(PPR, priority if priority >> 4 >= servicing >> 4 else servicing & 0xF0)

    def evaluate(self) -> None:
        """Recognize a pending virtual interrupt, or none."""
        guest = self.guest
        window = guest.proc & P1.INTERRUPT_WINDOW_EXITING
        higher = self.requesting >> 4 > (self.register(PPR) & 0xFF) >> 4
        self.recognized = bool(higher and not window)
        if guest.cpu.guest is guest:
            guest.cpu.update_pending()

    def deliver(self) -> bool:
        """Virtual-interrupt delivery; False when none is recognized."""
        from emu.cpu.system.events import deliver_interrupt  # noqa: PLC0415

        if not self.recognized:
            return False
        vector = self.requesting
        self.set_vector(ISR, vector, True)
        self.set_register(PPR, vector & 0xF0)
        self.set_vector(IRR, vector, False)
        left = self.vectors(IRR)
        self.set_status(left.bit_length() - 1 if left else 0, vector)
        self.recognized = False
        cpu = self.guest.cpu
        cpu.update_pending()
        self.guest.step_due = True
        cpu.halted = False
        deliver_interrupt(cpu, vector, EventKind.EXTERNAL)
        return True

    def request(self, vector: int) -> None:
        """Self-IPI virtualization."""
        self.set_vector(IRR, vector, True)
        self.set_status(max(self.requesting, vector), self.servicing)
        self.evaluate()

    def end_of_interrupt(self) -> None:
        """EOI virtualization."""
        vector = self.servicing
        self.set_vector(ISR, vector, False)
        left = self.vectors(ISR)
        self.set_status(self.requesting, left.bit_length() - 1 if left else 0)
        self.update_processor_priority()
        if self.guest.vmx[f"EOI_EXIT_BITMAP{vector >> 6}"] >> vector % 64 & 1:
            self.leave_after(ExitReason.VIRTUALIZED_EOI, vector)
        else:
            self.evaluate()

    def process_posted(self) -> None:
        """Posted-interrupt processing."""
        guest = self.guest
        memory, place = guest.cpu.memory, guest.vmx["POSTED_INTR_DESC_ADDR"]
        guest.cpu.environment.end_of_interrupt()
        requests = int.from_bytes(memory.read(place, 32), "little")
        flags = int.from_bytes(memory.read(place + 32, 8), "little")
        memory.write(place, bytes(32))
        memory.write(place + 32, (flags & ~1).to_bytes(8, "little"))
        for i in range(8):
            word = self.register(IRR + 16 * i) | requests >> 32 * i & 0xFFFF_FFFF
            self.set_register(IRR + 16 * i, word)
        highest = requests.bit_length() - 1 if requests else 0
        self.set_status(max(self.requesting, highest), self.servicing)
        self.evaluate()

    def leave_after(self, reason: ExitReason, qualification: int = 0) -> None:
        """A VM exit once the instruction is done."""
        guest = self.guest
        guest.after = Record(int(reason), qualification, resume_flag=0)
        if guest.cpu.guest is guest:
            guest.cpu.update_pending()

    # accesses to the APIC-access page: the processor's bus while the guest runs

    def read(self, physical: int, count: int) -> bytes:
        """A read of memory that is not RAM, or of the APIC-access page."""
        if physical >> 12 != self.access_page:
            return bytes(self.guest.cpu.memory.read(physical, count))
        offset = physical & 0xFFF
        if not self.is_virtual(offset, count, False):
            self.access(offset, DATA_READ)
        return bytes(self.guest.cpu.memory.read(self.page + offset, count))

    def write(self, physical: int, data: bytes) -> None:
        """A write, as `read`."""
        if physical >> 12 != self.access_page:
            self.guest.cpu.memory.write(physical, data)
            return
        offset = physical & 0xFFF
        if not self.is_virtual(offset, len(data), True):
            self.access(offset, DATA_WRITE)
        self.guest.cpu.memory.write(self.page + offset, bytes(data))
        self.written(offset & ~15)

    def access(self, offset: int, kind: int) -> None:
        """An APIC-access VM exit."""
        guest = self.guest
        length: int | None = guest.cpu.length
        if guest.cpu.delivering is not None:
            kind, length = IN_DELIVERY, None
        qualification = APIC_ACCESS.word(OFFSET=offset, ACCESS_TYPE=kind)
        guest.exit(ExitReason.APIC_ACCESS, qualification, length=length)

    def is_virtual(self, offset: int, count: int, writes: bool) -> bool:
        """Whether an access to the page is virtualized: 4 bytes of a register at most."""
        guest = self.guest
        if not guest.proc & P1.USE_TPR_SHADOW or guest.cpu.delivering is not None:
            return False
        if count > 4 or (offset & 15) + count > 4 or offset % count:
            return False
        register = offset & ~15
        if self.has_registers:
            return register in (WRITTEN if writes else READ)
        return register == TPR or (writes and self.delivers and register in (EOI, ICR_LOW))

    def written(self, register: int) -> None:
        """APIC-write emulation. SDM Vol. 3, APIC-Write Emulation."""
        if register == TPR:
            self.set_register(TPR, self.register(TPR) & 0xFF)
            self.priority_changed()
        elif register == EOI and self.delivers:
            self.set_register(EOI, 0)
            self.end_of_interrupt()
        elif register == ICR_LOW and self.delivers and self.is_self(self.register(ICR_LOW)):
            self.request(self.register(ICR_LOW) & 0xFF)
        elif register == ICR_HIGH:
            self.set_register(ICR_HIGH, self.register(ICR_HIGH) & 0xFF00_0000)
        else:
            self.leave_after(ExitReason.APIC_WRITE, register)

    @staticmethod
    def is_self(command: int) -> bool:
        """Whether a write of ICR_LOW is an IPI to oneself that can be virtualized."""
        return (
            not command & SELF_CLEAR & ~SHORTHAND
            and command & SHORTHAND == SELF
            and command >> 4 & 15 != 0
        )

    # MSRs of the x2APIC. SDM Vol. 3, Virtualizing MSR-Based APIC Accesses

    @property
    def has_msrs(self) -> bool:
        """Virtualize x2APIC mode."""
        return bool(self.guest.proc2 & P2.VIRTUALIZE_X2APIC_MODE)

    def read_msr(self, index: int) -> int | None:
        """RDMSR; None for what is not virtualized."""
        if not self.has_msrs or index not in X2APIC:
            return None
        offset = (index & 0xFF) << 4
        if self.has_registers or offset == TPR:
            return self.register(offset, 8)
        return None

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR; False for what is not virtualized."""
        if not self.has_msrs or index not in X2APIC:
            return False
        offset = (index & 0xFF) << 4
        if offset == TPR:
            if value >> 8:
                raise Refused
            self.set_register(TPR, value)
            self.priority_changed()
        elif offset == EOI and self.delivers:
            if value:
                raise Refused
            self.set_register(EOI, 0)
            self.end_of_interrupt()
        elif offset == SELF_IPI and self.delivers:
            if value >> 8:
                raise Refused
            self.set_register(SELF_IPI, value)
            if value >> 4:
                self.request(value)
            else:
                self.leave_after(ExitReason.APIC_WRITE, SELF_IPI)
        else:
            return False
        return True

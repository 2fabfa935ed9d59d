"""Where a processor in guest mode asks, and how it leaves, with a small extension of our own."""

from __future__ import annotations

import pytest

from emu.cpu.cpu import Cpu, Stop
from emu.cpu.guest_mode import Extension, GuestExit, GuestMode, Intercept

from . import machines
from .machines import CODE, DATA, STACK


class Guest(GuestMode):
    """Leaves at everything whose name is in `wanted`; the host goes on at HOST, a HLT."""

    def __init__(self, cpu, *wanted):
        super().__init__(cpu)
        self.wanted = wanted
        self.exits = []
        self.seen = []

    def leave(self):
        cpu = self.cpu
        self.exits.append((cpu.state.rip - CODE, self.seen[-1]))
        cpu.guest = None
        cpu.space = 0
        cpu.state.rip = HOST
        cpu.halted = False
        cpu.refresh()
        cpu.update_pending()

    def meet(self, name, *details):
        self.seen.append((name, *details))
        if name in self.wanted:
            raise GuestExit

    def intercept(self, what, insn, value=0):
        self.meet(what.name, value)

    def read_cr(self, number, value, insn):
        self.meet("read_cr", number)
        return value ^ 0x20

    def write_cr(self, number, value, insn):
        self.meet("write_cr", number, value)
        return value

    def read_msr(self, index):
        self.meet("read_msr", index)
        return 0x1_0000_0002

    def write_msr(self, index, value):
        self.meet("write_msr", index, value)
        return True

    def tsc(self, value):
        return value + 77

    def port(self, access, insn):
        self.meet("port", access.port, access.size, access.reads)

    def exception(self, event):
        delivering = self.cpu.delivering
        self.meet("exception", event.vector, None if delivering is None else delivering.vector)

    def triple_fault(self):
        self.meet("triple_fault")

    def nmi(self):
        self.meet("nmi")

    def interrupt(self):
        self.meet("interrupt")


class DeliveringCpu(machines.RecordingCpu):
    """A processor that delivers what it raises."""

    raised = Cpu.raised


HOST = CODE + 0x1000


@pytest.fixture
def cpu(monkeypatch):
    monkeypatch.setattr(machines, "RecordingCpu", DeliveringCpu)
    cpu = machines.machine(64)
    cpu.memory.load(HOST, b"\xf4")
    cpu.state.rsp, cpu.state.rdx = STACK, 0
    return cpu


def enter(cpu, code, *wanted):
    """Run `code` in a guest that leaves at `wanted`."""
    cpu.memory.load(CODE, bytes.fromhex(code) + b"\xf4")
    guest = Guest(cpu, *wanted)
    cpu.guest, cpu.space = guest, 1
    cpu.state.rip = CODE
    cpu.refresh()
    cpu.update_pending()
    return guest


@pytest.mark.parametrize(
    ("code", "name", "details"),
    [
        ("0fa2", "CPUID", (0,)),
        ("f390", "PAUSE", (0,)),
        ("0f31", "RDTSC", (0,)),
        ("0f0138", "INVLPG", (0,)),
        ("0f08", "INVD", (0,)),
        ("0f21c0", "DR_READ", (0,)),
        ("0f23f8", "DR_WRITE", (7,)),
        ("0f20d8", "read_cr", (3,)),
        ("0f22d8", "write_cr", (3, 0)),
        ("0f32", "read_msr", (0,)),
        ("0f30", "write_msr", (0, 0)),
        ("e460", "port", (0x60, 1, True)),
        ("66ef", "port", (0, 2, False)),
        ("0f0b", "exception", (6, None)),
        ("cd55", "INT_N", (0x55,)),
        ("cc", "exception", (3, None)),
        ("48cf", "IRET", (0,)),
    ],
)
def test_an_instruction_that_is_intercepted_has_had_no_effect(cpu, code, name, details):
    guest = enter(cpu, "90" + code, name)
    before = cpu.record["gpr"][0, :16].tobytes()

    assert Stop.HALT == cpu.run(100)
    assert [(1, (name, *details))] == guest.exits
    assert before == cpu.record["gpr"][0, :16].tobytes()
    assert 2 == cpu.state.retired


def test_what_is_not_intercepted_is_virtualised(cpu):
    guest = enter(cpu, "0f20e0 4889c3 0f32")

    cpu.run(100)
    assert (cpu.state.cr4 ^ 0x20, 2, 1) == (cpu.state.rbx, cpu.state.rax, cpu.state.rdx)
    assert [] == guest.exits


def test_the_time_stamp_counter_is_shifted(cpu):
    enter(cpu, "0f31")

    cpu.run(100)
    assert 77 == cpu.state.rax


def test_pushf_goes_to_plain_python_only_where_it_is_trapped(cpu):
    guest = enter(cpu, "9c 9d")
    cpu.run(100)

    assert "PUSHF" not in [seen[0] for seen in guest.seen]
    guest = enter(cpu, "9c 58 50 9d")
    cpu.halted = False
    guest.trapped = frozenset(("PUSHFQ", "POPFQ"))
    cpu.refresh()
    cpu.rflags = 0x247
    cpu.run(100)
    assert ["PUSHF", "POPF", "HLT"] == [seen[0] for seen in guest.seen]
    assert (0x247, STACK) == (cpu.state.rax, cpu.state.rsp)


def test_an_exception_in_the_delivery_of_another_names_both(cpu):
    guest = enter(cpu, "0f0b", "exception")
    guest.wanted = ()
    cpu.state.idtr_limit = 0

    assert Stop.SHUTDOWN == cpu.run(100)
    assert [
        ("exception", 6, None),
        ("exception", 13, 6),
        ("exception", 13, 13),
        ("exception", 8, 13),
        ("exception", 13, 8),
        ("triple_fault",),
    ] == guest.seen


def test_an_interrupt_leaves_before_it_is_acknowledged(cpu):
    guest = enter(cpu, "90", "interrupt")
    cpu.rflags = 0x202
    cpu.interrupt_pending = True
    cpu.update_pending()
    cpu.acknowledge, guest.leave = never, lambda: leave_for_good(guest)

    assert Stop.HALT == cpu.run(100)
    assert [("interrupt",)] == guest.seen
    assert cpu.interrupt_pending


def never():
    raise AssertionError("the interrupt was acknowledged")


def leave_for_good(guest):
    Guest.leave(guest)
    guest.cpu.rflags = 2


def test_an_nmi_leaves_and_stays_pending(cpu):
    guest = enter(cpu, "90", "nmi")
    cpu.nmi_pending = True
    cpu.update_pending()

    with pytest.raises(GuestExit):
        cpu.take_event()
    assert [("nmi",)] == guest.seen
    assert cpu.nmi_pending


class Bus:
    """Answers for the trapped page."""

    def __init__(self, memory):
        self.memory = memory
        self.accesses = []

    def read(self, gpa, count):
        if gpa >> 12 != DATA >> 12:
            return self.memory.read(gpa, count)
        self.accesses.append((gpa, count))
        return b"\x5a" * count

    def write(self, gpa, data):
        if gpa >> 12 != DATA >> 12:
            self.memory.write(gpa, data)
        else:
            self.accesses.append((gpa, data))


def test_accesses_to_the_trapped_page_go_to_its_bus(cpu):
    enter(cpu, "8b03 894304 8b8300100000")
    cpu.state.rbx = DATA
    cpu.memory.load(DATA + 0x1000, b"\x11\x22\x33\x44")
    bus = Bus(cpu.memory)
    cpu.trap_page(DATA >> 12, bus)

    cpu.run(100)
    assert [(DATA, 4), (DATA + 4, b"\x5a" * 4)] == bus.accesses
    assert 0x44332211 == cpu.state.rax
    assert bytes(8) == bytes(cpu.memory.read(DATA, 8))


class Vmcall(Extension):
    """An extension with one instruction and one MSR."""

    def __init__(self, cpu):
        super().__init__(cpu)
        self.table = {"VMCALL": lambda cpu, insn: setattr(cpu.state, "rbx", insn.len)}
        self.value = 5

    def read_msr(self, index):
        return self.value if index == 0x480 else None

    def blocks_init(self):
        return True


def test_an_extension_brings_instructions_and_msrs(cpu):
    cpu.extension = Vmcall(cpu)
    cpu.memory.load(CODE, bytes.fromhex("0f01c1 b980040000 0f32 f4"))
    cpu.state.rip = CODE

    cpu.run(100)
    assert (3, 5) == (cpu.state.rbx, cpu.state.rax)


def test_an_extension_can_hold_back_init(cpu):
    cpu.extension = Vmcall(cpu)
    cpu.memory.load(CODE, bytes.fromhex("90 f4"))
    cpu.state.rip = CODE
    cpu.init_pending = True
    cpu.update_pending()

    assert Stop.HALT == cpu.run(10)
    assert (CODE + 2, True) == (cpu.state.rip, cpu.init_pending)
    assert cpu.awaits_nothing()


def test_every_intercept_is_asked_about_somewhere():
    assert {"CPUID", "PUSHF", "XSAVES"} <= {one.name for one in Intercept}

import pytest

from emu.errors import InputError
from emu.machine.board import Board, Reason
from emu.machine.config import BoardConfig
from emu.machine.firmware import MIB
from emu.machine.lapic_registers import BASE_BSP, BASE_EN, BASE_EXTD, IA32_APIC_BASE
from emu.machine.processor import ParkedProcessor, Stop

LAPIC, IOAPIC = 0xFEE0_0000, 0xFEC0_0000


class Script(ParkedProcessor):
    """A processor whose instructions are Python functions."""

    def __init__(self, board, index):
        super().__init__(index)
        self.board, self.steps, self.used = board, [], 0
        self.stopping = False

    def run(self, ticks):
        self.used, self.stopping = 0, False
        while self.steps and self.used < ticks and not self.stopping:
            self.used += 1
            self.retired += 1
            self.steps.pop(0)()
        return Stop.BUDGET if self.steps else Stop.HALT

    def elapsed(self):
        return self.used

    def stop(self):
        self.stopping = True

    def halted(self):
        return not self.steps


def board(*steps, **settings):
    """A board whose first processor runs `steps`, each a function of the board."""
    machine = Board(BoardConfig(**{"idle_limit": 1, **settings}), Script)
    machine.processors[0].steps = [lambda step=step: step(machine) for step in steps]
    return machine


def out(port, value, size=1):
    return lambda machine: machine.ports.write(port, size, value)


def load(machine, gpa):
    return int.from_bytes(machine.memory.read(gpa, 4), "little")


def store(machine, gpa, value):
    machine.memory.write(gpa, value.to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("steps", "reason", "status"),
    [
        ([out(0xF4, 0, 4)], Reason.DEBUG_EXIT, 1),
        ([out(0xF4, 5, 4)], Reason.DEBUG_EXIT, 11),
        ([out(0x604, 0x2000, 2)], Reason.POWER_OFF, 0),
        ([out(0x8900, c) for c in b"Shutdown"], Reason.POWER_OFF, 0),
        ([out(0xCF9, 2), out(0xCF9, 6)], Reason.RESET, None),
        ([out(0x64, 0xFE)], Reason.RESET, None),
        ([out(0x92, 3)], Reason.RESET, None),
    ],
)
def test_guest_ends_the_run(steps, reason, status):
    outcome = board(*steps, out(0x80, 0)).run()

    assert (reason, status, len(steps)) == (outcome.reason, outcome.status, outcome.instructions)


def test_triple_fault_ends_the_run():
    machine = board(out(0x80, 0))
    machine.processors[0].run = lambda ticks: Stop.SHUTDOWN

    assert Reason.TRIPLE_FAULT == machine.run().reason


def test_serial_output_reaches_the_listener():
    sent = bytearray()
    machine = Board(transmit=sent.extend)
    for byte in b"hi":
        machine.ports.write(0x3F8, 1, byte)

    assert b"hi" == sent


def test_timer_interrupts_through_the_8259_and_the_virtual_wire():
    machine = Board()
    machine.run(max_ticks=machine.clock.hz // 18)

    assert (True, 0x08) == (machine.processors[0].requested, machine.lapics[0].acknowledge())


def test_timer_is_on_input_2_of_the_io_apic():
    machine = Board()
    machine.ports.write(0x21, 1, 0xFF)
    store(machine, LAPIC + 0xF0, 0x1FF)
    store(machine, IOAPIC, 0x14)
    store(machine, IOAPIC + 0x10, 0x30)
    machine.run(max_ticks=machine.clock.hz // 18)

    assert 0x30 == machine.lapics[0].acknowledge()


def test_test_device_drives_both_interrupt_controllers():
    machine = Board()
    machine.ports.write(0xA1, 1, 0x00)
    store(machine, LAPIC + 0xF0, 0x1FF)
    store(machine, IOAPIC, 0x10 + 2 * 11)
    store(machine, IOAPIC + 0x10, 0x55)
    machine.ports.write(0x200B, 1, 1)

    assert ([0x73, 0x55], False) == (
        [machine.lapics[0].acknowledge() for _ in range(2)],
        machine.lapics[0].pending_vector() is not None,
    )


def test_each_processor_sees_its_own_local_apic():
    machine, seen = Board(BoardConfig(processors=3)), []
    for index in range(3):
        machine.scheduler.current = index
        seen.append(load(machine, LAPIC + 0x20) >> 24)

    assert [0, 1, 2] == seen


def test_relocated_local_apic_answers_at_its_new_address_only():
    machine = Board(BoardConfig(processors=2))
    machine.lapics[0].write_msr(IA32_APIC_BASE, 0xFED4_0000 | BASE_BSP | BASE_EN)
    version = machine.lapics[0].model.version
    first = load(machine, 0xFED4_0030), load(machine, LAPIC + 0x30)
    machine.scheduler.current = 1
    second = load(machine, 0xFED4_0030), load(machine, LAPIC + 0x30)

    assert ((version, 0xFFFF_FFFF), (0xFFFF_FFFF, version)) == (first, second)


@pytest.mark.parametrize("mode", [0, BASE_EN | BASE_EXTD])
def test_window_of_a_disabled_or_x2apic_local_apic_is_empty_and_comes_back(mode):
    machine = Board()
    lapic = machine.lapics[0]
    lapic.write_msr(IA32_APIC_BASE, LAPIC | BASE_BSP | mode)
    store(machine, LAPIC + 0x80, 0xFF)
    gone = load(machine, LAPIC + 0x30)
    lapic.write_msr(IA32_APIC_BASE, LAPIC | BASE_BSP)
    lapic.write_msr(IA32_APIC_BASE, LAPIC | BASE_BSP | BASE_EN)

    assert (0xFFFF_FFFF, lapic.model.version, 0) == (gone, load(machine, LAPIC + 0x30), lapic.tpr)


def test_fw_cfg_tells_memory_processors_and_the_memory_map():
    machine = Board(BoardConfig(processors=4, memory=256 * MIB))

    def item(key, count):
        machine.ports.write(0x510, 2, key)
        return int.from_bytes(bytes(machine.ports.read(0x511, 1) for _ in range(count)), "little")

    assert (256 * MIB, 4, 0) == (item(3, 8), item(5, 2), item(0x11, 8))


def test_tables_are_found_in_memory_where_a_guest_looks_for_them():
    machine = Board()
    found = [
        gpa for gpa in range(0xE_0000, 0x10_0000, 16) if machine.memory.read(gpa, 8) == b"RSD PTR "
    ]

    assert [machine.acpi.rsdp] == found


def test_pci_address_and_reset_control_share_their_ports():
    machine = board(out(0xCF8, 0x8000_0000, 4), out(0xCF9, 0), out(0x80, 0))
    machine.run()

    assert (0x29C0_8086, 0x8000_0000) == (
        machine.ports.read(0xCFC, 4),
        machine.ports.read(0xCF8, 4),
    )


def test_reset_with_a_shutdown_code_goes_on_at_the_reset_vector():
    machine = board(out(0x70, 0x0F), out(0x71, 0x0A), out(0x64, 0xFE), out(0x20, 0x0B))
    outcome = machine.run()

    assert (Reason.IDLE_LIMIT, ["reset"], 4) == (
        outcome.reason,
        machine.processors[0].arrived,
        outcome.instructions,
    )


def test_sleep_ends_with_the_alarm_at_the_waking_vector():
    machine = Board(make_processor=Script)

    def prepare(_):
        store(machine, machine.acpi.facs + 12, 0x1_2345)
        machine.ports.write(0x602, 2, 0x400)
        for index in (1, 3, 5):
            machine.ports.write(0x70, 1, index)
            machine.ports.write(0x71, 1, 0xC0)
        machine.ports.write(0x70, 1, 0x0B)
        machine.ports.write(0x71, 1, 0x22)
        machine.ports.write(0x604, 2, 0x2400)

    machine.processors[0].steps = [lambda: prepare(machine)]
    machine.run(max_ticks=2 * machine.clock.hz)
    entered = machine.processors[0].entered

    assert (0x1234, 0x1_2340, 5, 0x8000) == (
        entered.segments["cs"].selector,
        entered.segments["cs"].base,
        entered.rip,
        machine.ports.read(0x600, 2) & 0x8000,
    )


def test_sleep_without_a_wake_event_ends_the_run():
    assert Reason.NO_EVENT == board(out(0x604, 0x2400, 2), idle_limit=1).run().reason


def test_power_button_interrupts_by_the_sci():
    machine = Board()
    machine.ports.write(0x602, 2, 0x100)
    machine.power_button()

    assert machine.ioapic.lines >> 9 & 1


def test_nmi_button_reaches_the_processor_whose_lint1_is_open():
    machine = Board(BoardConfig(processors=2))
    machine.nmi()

    assert (["nmi"], []) == tuple(processor.arrived for processor in machine.processors)


def test_port_70h_masks_the_nmi_button():
    machine = Board()
    machine.ports.write(0x70, 1, 0x8F)
    machine.nmi()

    assert [] == machine.processors[0].arrived


@pytest.mark.parametrize(("step", "ticks"), [(out(0x80, 0), 501), (out(0xCFC, 0, 4), 501)])
def test_port_access_takes_time(step, ticks):
    outcome = board(step).run(max_instructions=1)

    assert (ticks, 1) == (outcome.ticks, outcome.instructions)


def test_device_in_memory_takes_time():
    machine = board(lambda machine: load(machine, IOAPIC))

    assert 51 == machine.run(max_instructions=1).ticks


def test_machine_without_test_device_has_no_debug_exit():
    machine = board(out(0xF4, 0, 4), test_device=False)

    assert (Reason.IDLE_LIMIT, 0xFF) == (machine.run().reason, machine.ports.read(0xF4, 1))


@pytest.mark.parametrize(
    "settings",
    [
        {"processors": 0},
        {"processors": 256},
        {"memory": MIB},
        {"memory": 1 << 40},
        {"memory": 3 * MIB + 1},
        {"tsc_hz": 1},
        {"pause_ticks": 0},
        {"quantum": 0},
        {"port_ticks": -1},
    ],
)
def test_impossible_board_is_refused_in_one_line(settings):
    with pytest.raises(InputError) as error:
        BoardConfig(**settings)

    assert "\n" not in str(error.value)

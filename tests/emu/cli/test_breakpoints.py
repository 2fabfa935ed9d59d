import pytest

from emu.cli.breakpoints import Moment, moment, run_to
from emu.cpu.observed import ObservedCpu
from emu.errors import InputError
from emu.machine.board import Board, Reason
from emu.machine.core import Cores
from emu.machine.loaders import load
from tests.emu.machine.images import STATUS, multiboot_elf

HANDLER, INSTRUCTIONS = 0x1000B7, 38  # of the image: its #UD handler, its length


@pytest.fixture
def board():
    made = Board(make_processor=Cores(processor=ObservedCpu))
    load(made, multiboot_elf(), "image")
    return made


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("instruction:12", Moment("instruction", 12), "instruction:12"),
        ("instruction:0x10", Moment("instruction", 16), "instruction:16"),
        ("rip:0x1000b7", Moment("rip", HANDLER), "rip:0x1000b7"),
        ("rip:1000B7", Moment("rip", HANDLER), "rip:0x1000b7"),
        (" RIP:0xffffffff81000000 ", Moment("rip", 0xFFFFFFFF81000000), "rip:0xffffffff81000000"),
        ("exit:3", Moment("exit", 3), "exit:3"),
    ],
)
def test_a_moment_is_read_as_it_is_written(text, expected, shown):
    assert expected == moment(text)
    assert shown == str(moment(text))


@pytest.mark.parametrize(
    "text",
    ["", "rip", "rip:", "rip:xyz", "at:5", "exit:-1", "exit:ff", "rip:" + "f" * 17, "rip:٣"],
)
def test_what_names_no_moment_is_refused(text):
    with pytest.raises(InputError):
        moment(text)


def test_a_run_stops_before_the_instruction_at_rip_and_goes_on_from_there(board):
    outcome = run_to(board, Moment("rip", HANDLER))
    cpu = board.processors[0].cpu

    assert (Reason.PAUSED, 28) == (outcome.reason, outcome.instructions)
    assert HANDLER == cpu.state.rip
    assert (Reason.DEBUG_EXIT, STATUS, INSTRUCTIONS) == board.run()[:3]


@pytest.mark.parametrize("number", [0, 1, 17, INSTRUCTIONS - 1])
def test_a_run_stops_after_so_many_instructions(board, number):
    outcome = run_to(board, Moment("instruction", number))

    assert (Reason.PAUSED, number) == (outcome.reason, outcome.instructions)
    assert (Reason.DEBUG_EXIT, STATUS, INSTRUCTIONS) == board.run()[:3]


@pytest.mark.parametrize("where", [("rip", 0x55), ("instruction", 99), ("exit", 1)])
def test_a_moment_that_does_not_come_ends_as_the_run_does(board, where):
    outcome = run_to(board, Moment(*where))

    assert (Reason.DEBUG_EXIT, STATUS, INSTRUCTIONS) == outcome[:3]


def test_another_address_with_the_same_offset_is_no_breakpoint(board):
    outcome = run_to(board, Moment("rip", HANDLER + 0x1000))

    assert (Reason.DEBUG_EXIT, STATUS, INSTRUCTIONS) == outcome[:3]

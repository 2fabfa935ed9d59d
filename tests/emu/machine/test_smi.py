"""SMI sources of the chipset, and SMRAM as processors see it."""

from __future__ import annotations

import pytest

from emu.cpu.models import MODELS
from emu.machine.board import Board
from emu.machine.config import BoardConfig
from emu.machine.core import Cores
from emu.machine.firmware import MIB, VIDEO
from emu.machine.power import PM_BASE
from emu.machine.smi import (
    APMC,
    END_OF_SMI,
    GLOBAL_ENABLE,
    SMI_OFFSET,
    ApmPorts,
    SmiControl,
)

SMI_EN, SMI_STS = PM_BASE + SMI_OFFSET, PM_BASE + SMI_OFFSET + 4
SMRAM, ESMRAMC = 0x8000_009C, 0x8000_009C  # a dword of configuration space holds both
G_SMRAME, D_LCK, D_OPEN = 8 << 8, 16 << 8, 64 << 8
T_EN, TSEG_2MB = 1 << 16, 1 << 17


class Counter:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1


@pytest.mark.parametrize(
    ("enable", "count"),
    [
        (0, 0),
        (GLOBAL_ENABLE | END_OF_SMI, 0),
        (APMC | END_OF_SMI, 0),
        (GLOBAL_ENABLE | APMC | END_OF_SMI, 1),
    ],
)
def test_a_write_to_apm_cnt_brings_an_smi_when_both_enables_are_set(enable, count):
    smi = Counter()
    control = SmiControl(smi)
    control.port_write(0, 4, enable)
    ApmPorts(control).port_write(0, 1, 0x5A)

    assert count == smi.count


def test_no_second_smi_comes_before_eos_is_set_again():
    smi = Counter()
    control = SmiControl(smi)
    apm = ApmPorts(control)
    control.port_write(0, 4, GLOBAL_ENABLE | APMC)
    apm.port_write(0, 1, 1)
    apm.port_write(0, 1, 2)
    before = smi.count
    control.port_write(0, 4, GLOBAL_ENABLE | APMC | END_OF_SMI)

    assert (1, 2) == (before, smi.count)


def test_a_one_clears_the_status():
    control = SmiControl(Counter())
    control.port_write(0, 4, APMC)
    ApmPorts(control).port_write(0, 1, 0)
    before = control.port_read(4, 4)
    control.port_write(4, 4, APMC)

    assert (APMC, 0) == (before, control.port_read(4, 4))


def test_apm_ports_keep_what_is_written():
    apm = ApmPorts(SmiControl(Counter()))
    apm.port_write(0, 1, 0x12)
    apm.port_write(1, 1, 0x34)

    assert (0x12, 0x34) == (apm.port_read(0, 1), apm.port_read(1, 1))


# on a board with processors


@pytest.fixture
def board():
    cores = Cores(MODELS["skylake-x"])
    return Board(BoardConfig(processors=2, memory=16 * MIB, apic=cores.apic()), cores)


def configure(board: Board, value: int) -> None:
    """Write the dword of the host bridge that holds SMRAM (byte 1) and ESMRAMC (byte 2)."""
    board.ports.write(0xCF8, 4, SMRAM)
    board.ports.write(0xCFC, 4, value)


def configured(board: Board) -> int:
    board.ports.write(0xCF8, 4, SMRAM)
    return board.ports.read(0xCFC, 4)


def seen(board: Board, gpa: int, active: bool) -> bool:
    """Whether a byte written at `gpa` stays, for a processor inside or outside SMM."""
    board.smram.show(active)
    board.memory.write(gpa, b"\x5a")
    return board.memory.read(gpa, 1) == b"\x5a"


@pytest.mark.parametrize(
    ("control", "inside", "outside"),
    [
        (0, False, False),
        (G_SMRAME, True, False),
        (G_SMRAME | D_OPEN, True, True),
        (D_OPEN, False, False),
        (G_SMRAME | D_OPEN | D_LCK, True, False),
    ],
)
def test_the_compatible_segment_is_seen_in_smm_or_when_open(board, control, inside, outside):
    configure(board, control)

    assert (inside, outside) == (seen(board, VIDEO, True), seen(board, VIDEO, False))


def test_tseg_hides_the_top_of_memory(board):
    top = 16 * MIB
    free = seen(board, top - MIB, False)
    configure(board, G_SMRAME | T_EN | TSEG_2MB)
    places = (top - 2 * MIB - 4096, top - 2 * MIB, top - 1)

    assert free
    assert [True, False, False] == [seen(board, gpa, False) for gpa in places]
    assert [True, True, True] == [seen(board, gpa, True) for gpa in places]


def test_the_lock_holds_until_reset(board):
    configure(board, G_SMRAME | D_LCK)
    configure(board, D_OPEN)
    locked = configured(board)
    board.smram.reset()

    assert G_SMRAME | D_LCK == locked & 0x7800
    assert 0 == configured(board) & 0x7800


def test_what_smm_wrote_is_there_again(board):
    configure(board, G_SMRAME)
    board.smram.show(True)
    board.memory.write(VIDEO, b"kept")
    board.smram.show(False)
    hidden = board.memory.read(VIDEO, 4)
    board.smram.show(True)

    assert (b"\xff" * 4, b"kept") == (hidden, board.memory.read(VIDEO, 4))


HANDLER = bytes.fromhex(
    "67 66 ff05 00700000"  # inc dword [7000H]
    "66 ba 34060000 66 b8 20000000 66 ef"  # SMI_STS: clear APM_STS
    "66 ba 30060000 66 b8 23000000 66 ef"  # SMI_EN: EOS again
    "0faa"
)


def test_an_out_to_apm_cnt_runs_the_handler_in_smram_and_comes_back(board):
    configure(board, G_SMRAME | D_OPEN)
    board.memory.load(VIDEO + 0x8000, HANDLER)
    configure(board, G_SMRAME | D_LCK)
    core = board.processors[0]
    core.cpu.smm.base = VIDEO
    board.ports.write(SMI_EN, 4, GLOBAL_ENABLE | APMC | END_OF_SMI)
    state = core.cpu.state
    state.segment_base[1] = 0
    state.rip = 0x1000
    core.cpu.refresh()
    board.memory.load(0x1000, bytes.fromhex("e6b2 e6b2 b003 e6f4"))
    outcome = board.run(1000)

    assert (7, 2) == (outcome.status, board.memory.read(0x7000, 1)[0])
    assert not core.cpu.smm.active


def test_an_smi_of_the_local_apic_enters_smm(board):
    board.memory.load(0x38000, bytes.fromhex("67 66 ff05 00700000 0faa"))
    core = board.processors[0]
    core.set_up(0x30000)
    core.cpu.state.segment_base[1] = 0
    core.cpu.state.rip = 0x1000
    core.cpu.refresh()
    board.memory.load(0x1000, b"\x90" * 16)
    board.lapics[0].mmio_write(0x300, 4, 0x200)  # delivery mode SMI, to APIC ID 0
    board.run(8)

    assert 1 == board.memory.read(0x7000, 1)[0]


def test_the_handler_of_the_firmware_goes_back_at_once_on_each_processor(board):
    board.memory.load(0x1000, b"\x90" * 64)
    for core in board.processors:
        core.cpu.waits_for_sipi = False
        core.cpu.state.segment_base[1] = 0
        core.cpu.state.rip = 0x1000
        core.cpu.refresh()
    board.smi()
    board.run(20)
    board.smram.show(True)
    bases = [core.cpu.smm.base for core in board.processors]

    assert [0xA0000, 0xA0400] == bases
    assert [b"\x0f\xaa"] * 2 == [board.memory.read(base + 0x8000, 2) for base in bases]
    assert not any(core.cpu.smm.active for core in board.processors)
    assert all(core.cpu.state.rip < 0x1040 for core in board.processors)


def test_a_reset_of_the_board_keeps_the_state_save_areas_apart(board):
    board._reset_devices()

    assert [0xA0000, 0xA0400] == [core.cpu.smm.base for core in board.processors]

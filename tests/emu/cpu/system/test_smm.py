"""System-management mode: what is saved, what begins, what RSM restores and refuses."""

from __future__ import annotations

import pytest

from emu.cpu.cpu import Stop
from emu.cpu.errors import Fault
from emu.cpu.flags import IF
from emu.cpu.models import MODELS
from emu.cpu.paging import CR0_CD, CR0_NW, CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME
from emu.cpu.smm import AMD_64, INTEL_64
from emu.cpu.state import CS, DS, GS, SS, Vector
from emu.cpu.system.smm import RSM_CHECKS

from .. import machines
from ..machines import CODE, STACK

SMBASE = 0x30000
RSM = bytes.fromhex("0faa")
MAPS = {"skylake-x": INTEL_64, "zen3": AMD_64}


@pytest.fixture(params=sorted(MAPS))
def cpu(request):
    """64-bit code at CODE, an SMI handler that returns at once."""
    cpu = machines.machine(64)
    cpu.model = MODELS[request.param]
    cpu.state.rip, cpu.state.rsp = CODE, STACK
    cpu.memory.load(CODE, b"\x90" * 64)
    handler(cpu, RSM)
    return cpu


def handler(cpu, code: bytes, smbase: int = SMBASE) -> None:
    cpu.memory.load(smbase + 0x8000, code)


def smi(cpu) -> None:
    cpu.smm.pending = True
    cpu.update_pending()


def slot(cpu, word: str, element: int = -1):
    rows = MAPS[cpu.model.name]
    return next(s for s in rows if (s.word, s.element, s.shift) == (word, element, 0))


def saved(cpu, word: str, element: int = -1, smbase: int = SMBASE) -> int:
    row = slot(cpu, word, element)
    return int.from_bytes(cpu.memory.read(smbase + row.offset, row.size), "little")


def poke(cpu, word: str, value: int, element: int = -1) -> None:
    row = slot(cpu, word, element)
    cpu.memory.write(SMBASE + row.offset, value.to_bytes(row.size, "little"))


def everything(cpu) -> dict[str, object]:
    state = cpu.state
    names = ("rip", "cr0", "cr3", "cr4", "efer", "cpl", "gdtr_base", "gdtr_limit", "idtr_base")
    found: dict[str, object] = {name: int(getattr(state, name)) for name in names}
    found["gpr"] = [int(state.gpr[i]) for i in range(16)]
    found["rflags"] = cpu.rflags
    for name in ("selector", "segment_base", "segment_limit", "segment_rights"):
        found[name] = [int(getattr(state, name)[i]) for i in range(8)]
    found["dr"] = [int(state.dr[i]) for i in range(8)]
    return found


def test_entry_begins_in_big_real_mode_at_smbase(cpu):
    smi(cpu)
    cpu.take_event()
    state = cpu.state

    assert (0x8000, 0x3000, SMBASE) == (state.rip, state.selector[CS], state.segment_base[CS])
    assert (0, 0, 2, 0x400) == (state.cr4, state.efer, cpu.rflags, state.dr[7])
    assert 0 == state.cr0 & (CR0_PE | CR0_PG)
    assert {0xFFFFFFFF} == {state.segment_limit[seg] for seg in range(6)}


def test_rsm_restores_all_that_the_save_area_holds(cpu):
    state = cpu.state
    for i in range(16):
        state.gpr[i] = 0x1111_2222_3333_4444 * (i + 1) & (1 << 64) - 1
    state.rsp = STACK
    state.segment_base[GS] = 0xFFFF_8000_1234_5000
    state.gdtr_base, state.gdtr_limit = 0xFFFF_8000_0000_1000, 0x7F
    state.idtr_base, state.idtr_limit = 0xFFFF_8000_0000_2000, 0xFFF
    cpu.refresh()
    before = everything(cpu)
    smi(cpu)
    cpu.run(1)

    assert before == everything(cpu)
    assert not cpu.smm.active


@pytest.mark.parametrize(
    ("word", "element", "value"),
    [
        ("rip", -1, CODE),
        ("rsp", -1, STACK),
        ("r15", -1, 15),
        ("cr3", -1, machines.TABLES),
        ("selector", DS, 0x10),
        ("smbase", -1, SMBASE),
        ("halt_restart", -1, 0),
        ("efer", -1, 0xD00),
    ],
)
def test_the_save_area_holds_the_interrupted_state(cpu, word, element, value):
    cpu.state.r15 = 15
    smi(cpu)
    cpu.take_event()

    assert value == saved(cpu, word, element)


def test_the_revision_tells_of_relocation_and_io_restart(cpu):
    smi(cpu)
    cpu.take_event()

    assert 3 == saved(cpu, "revision") >> 16


def test_smbase_moves_with_what_the_handler_stores(cpu):
    smi(cpu)
    cpu.take_event()
    poke(cpu, "smbase", 0x50000)
    cpu.run(1)
    handler(cpu, RSM, 0x50000)
    smi(cpu)
    cpu.take_event()

    assert (0x5000, 0x50000) == (cpu.state.selector[CS], cpu.state.segment_base[CS])


def test_rsm_outside_smm_is_undefined(cpu):
    cpu.memory.load(CODE, RSM)
    cpu.stop_at_fault = True
    with pytest.raises(Fault) as raised:
        cpu.run(1)

    assert Vector.UD == raised.value.vector


@pytest.mark.parametrize("event", ["nmi_pending", "init_pending", "interrupt_pending"])
def test_events_wait_until_smm_is_left(cpu, event):
    handler(cpu, b"\x90\x90\x90" + RSM)
    smi(cpu)
    cpu.take_event()
    setattr(cpu, event, True)
    cpu.acknowledge = lambda: 0x40
    cpu.update_pending()
    cpu.run(2)

    assert (0x8002, True) == (cpu.state.rip, cpu.smm.active)


def test_one_more_smi_is_latched_and_taken_after_rsm(cpu):
    smi(cpu)
    cpu.take_event()
    before = saved(cpu, "rip")
    smi(cpu)
    poke(cpu, "rip", before + 8)
    cpu.run(1)

    assert (True, False) == (cpu.smm.active, cpu.smm.pending)
    assert before + 8 == saved(cpu, "rip")


@pytest.mark.parametrize("blocked", [False, True])
def test_nmi_blocking_is_as_before_after_rsm(cpu, blocked):
    cpu.nmi_blocked = blocked
    smi(cpu)
    cpu.take_event()
    inside = cpu.nmi_blocked
    cpu.run(1)

    assert (True, blocked) == (inside, cpu.nmi_blocked)


def test_smi_goes_before_init_and_nmi(cpu):
    cpu.init_pending = cpu.nmi_pending = True
    smi(cpu)
    cpu.take_event()

    assert (True, True, True) == (cpu.smm.active, cpu.init_pending, cpu.nmi_pending)


def test_smi_waits_for_the_shadow_of_sti(cpu):
    cpu.memory.load(CODE, bytes.fromhex("fb 90 90"))  # sti
    smi(cpu)
    cpu.smm.pending = False
    cpu.state.rflags &= ~IF
    cpu.run(1)
    smi(cpu)

    assert not cpu.smi_acceptable()


@pytest.mark.parametrize(("restart", "stop"), [(0, Stop.BUDGET), (1, Stop.HALT)])
def test_halt_restart(cpu, restart, stop):
    cpu.memory.load(CODE, b"\xf4")
    cpu.run(1)
    smi(cpu)
    cpu.take_event()
    was_halted = saved(cpu, "halt_restart")
    poke(cpu, "halt_restart", restart)

    assert (1, stop) == (was_halted, cpu.run(3))
    assert CODE + 1 + (2 if stop is Stop.BUDGET else 0) == cpu.state.rip


OUT_IMM, OUT_DX, REP_OUTSB = b"\xe6\xb2", b"\xee", b"\xf3\x6e"


def io_machine(cpu, monkeypatch, code: bytes) -> list[int]:
    """Ports on which every OUT brings an SMI, the first time; the values written."""
    written: list[int] = []

    def port_write(port: int, size: int, value: int) -> None:
        written.append(value)
        if len(written) == 1:
            smi(cpu)

    monkeypatch.setattr(cpu.environment, "port_write", port_write)
    cpu.memory.load(CODE, code + b"\x90" * 8)
    cpu.state.rdx, cpu.state.rax = 0xB2, 0x5A
    cpu.state.rsi, cpu.state.rcx = machines.DATA, 2
    return written


@pytest.mark.parametrize(
    ("code", "misc", "trap"),
    [
        (OUT_IMM, 0x00B20083, 0x00B20012),
        (OUT_DX, 0x00B20003, 0x00B20012),
        (REP_OUTSB, 0x00B20063, 0x00B2001E),
    ],
)
def test_an_smi_by_an_io_instruction_is_described(cpu, monkeypatch, code, misc, trap):
    io_machine(cpu, monkeypatch, code)
    cpu.run(1)
    cpu.take_event()
    word, value = ("io_trap", trap) if cpu.model.name == "zen3" else ("io_misc", misc)

    assert (value, CODE) == (saved(cpu, word), saved(cpu, "io_rip"))


@pytest.mark.parametrize(("restart", "times"), [(0x00, 1), (0xFF, 2)])
def test_io_instruction_restart(cpu, monkeypatch, restart, times):
    written = io_machine(cpu, monkeypatch, OUT_IMM)
    cpu.run(1)
    cpu.take_event()
    poke(cpu, "io_restart", restart)
    cpu.run(2)

    assert times == len(written)


def test_a_restarted_string_counts_again(cpu, monkeypatch):
    cpu.memory.load(machines.DATA, b"ab")
    written = io_machine(cpu, monkeypatch, REP_OUTSB)
    cpu.run(1)
    cpu.take_event()
    poke(cpu, "io_restart", 0xFF)
    cpu.run(3)

    assert [ord("a"), ord("a"), ord("b")] == written


BROKEN = {
    "cr0_pg_without_pe": ("cr0", -1, CR0_PG),
    "cr0_nw_without_cd": ("cr0", -1, CR0_PG | CR0_PE | CR0_NW),
    "cr4_reserved": ("cr4", -1, CR4_PAE | 1 << 31),
    "long_mode_without_pae": ("cr4", -1, 0),
    "cr0_reserved": ("cr0", -1, CR0_PG | CR0_PE | 1 << 32),
    "cr3_reserved": ("cr3", -1, machines.TABLES | 1 << 62),
    "dr6_reserved": ("dr", 6, 1 << 32),
    "dr7_reserved": ("dr", 7, 1 << 32 | 0x400),
    "efer_reserved": ("efer", -1, EFER_LME | EFER_LMA | 1 << 16),
    "cs_l_and_d_in_long_mode": ("attributes", CS, 0xE9B),
}


@pytest.mark.parametrize(
    ("cpu", "check"),
    [(m, c) for m in MAPS for c in RSM_CHECKS if MODELS[m].vendor in c.vendors],
    indirect=["cpu"],
    ids=lambda value: getattr(value, "name", value),
)
def test_breaking_one_rule_of_rsm_shuts_down(cpu, check):
    word, element, value = BROKEN[check.name]
    smi(cpu)
    cpu.take_event()
    poke(cpu, word, value, element)

    assert Stop.SHUTDOWN == cpu.run(5)


def test_every_rule_of_rsm_is_broken_here():
    assert {check.name for check in RSM_CHECKS} == BROKEN.keys()


def test_a_legal_change_of_cr0_is_restored(cpu):
    smi(cpu)
    cpu.take_event()
    poke(cpu, "cr0", saved(cpu, "cr0") | CR0_CD | CR0_NW)
    cpu.run(1)

    assert CR0_CD | CR0_NW == cpu.state.cr0 & (CR0_CD | CR0_NW)


def test_long_mode_follows_from_lme_and_pg(cpu):
    smi(cpu)
    cpu.take_event()
    poke(cpu, "efer", EFER_LME)
    cpu.run(1)

    assert EFER_LME | EFER_LMA == cpu.state.efer


def test_the_privilege_level_is_that_of_the_stack_segment(cpu):
    state = cpu.state
    state.cpl = 3
    state.segment_rights[SS] = 0xC0F3
    state.segment_rights[CS] = 0xA0FB
    cpu.refresh()
    smi(cpu)
    cpu.take_event()
    inside = state.cpl
    cpu.run(1)

    assert (0, 3) == (inside, state.cpl)


def test_reset_puts_smbase_back_and_init_does_not(cpu):
    cpu.smm.base = 0x50000
    cpu.init_reset()
    after_init = cpu.smm.base
    cpu.reset()

    assert (0x50000, SMBASE) == (after_init, cpu.smm.base)

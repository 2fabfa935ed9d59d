"""System instructions: what each refuses, and what it changes."""

from __future__ import annotations

import pytest

from emu.cpu.flags import RF
from emu.cpu.models import MODELS
from emu.cpu.paging import CR0_ET, CR0_PE, CR0_PG, CR4_PAE, CR4_PCIDE, EFER_LMA, EFER_LME
from emu.cpu.segments import UNUSABLE
from emu.cpu.state import FS, GS, LDTR, SS, TR, Vector

from .. import machines
from ..machines import CODE, DATA, STACK

GDT, TSS = 0xA0_0000, 0xB0_0000
CODE64, DATA0, CODE64_USER, DATA_USER, CODE_32_USER = 0x08, 0x10, 0x1B, 0x23, 0x2B
TSS_AT, ABSENT, GATE = 0x30, 0x40, 0x48
DESCRIPTORS = (
    0,
    0x00AF9B000000FFFF,
    0x00CF93000000FFFF,
    0x00AFFB000000FFFF,
    0x00CFF3000000FFFF,
    0x00CFFB000000FFFF,
    0x000089B000000067,  # TSS
    0,
    0x00CF13000000FFFF,  # a data segment that is not present
    CODE >> 16 << 48 | 0x8C << 40 | CODE64 << 16 | CODE & 0xFFFF,  # call gate
    0,
)
WRMSR, RDMSR = bytes.fromhex("0f30"), bytes.fromhex("0f32")
CR = {0: "0f22c0", 3: "0f22d8", 4: "0f22e0"}  # mov crN, rax
LONG_CR0 = CR0_PE | CR0_ET | CR0_PG


@pytest.fixture
def cpu():
    return privileged_machine()


def privileged_machine():
    cpu = machines.machine(64)
    cpu.state.rip, cpu.state.rsp = CODE, STACK
    for i, descriptor in enumerate(DESCRIPTORS):
        cpu.memory.load(GDT + 8 * i, descriptor.to_bytes(8, "little"))
    cpu.state.gdtr_base, cpu.state.gdtr_limit = GDT, 8 * len(DESCRIPTORS) - 1
    cpu.state.selector[1], cpu.state.selector[2] = CODE64, DATA0
    return cpu


def step(cpu, code, **registers):
    """Run one instruction; the fault that it raised as (vector, error), or None."""
    cpu.memory.load(CODE, bytes.fromhex(code) if isinstance(code, str) else code)
    for name, value in registers.items():
        setattr(cpu.state, name, value)
    cpu.fault = None
    cpu.state.budget = cpu.state.slice = 10
    cpu.step()
    return None if cpu.fault is None else (cpu.fault.vector, cpu.fault.error)


GP0 = (Vector.GP, 0)


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (0, LONG_CR0 | 1 << 32),
        (0, LONG_CR0 | 1 << 29),  # NW without CD
        (0, LONG_CR0 & ~CR0_PE),
        (0, LONG_CR0 & ~CR0_PG),  # in 64-bit mode
        (3, 1 << 46),  # above MAXPHYADDR
        (4, 0),  # PAE cleared in IA-32e mode
        (4, CR4_PAE | 1 << 12),  # no LA57
        (4, CR4_PAE | 1 << 15),
        (4, CR4_PAE | 1 << 63),
    ],
)
def test_illegal_values_of_control_registers_give_gp(cpu, register, value):
    assert GP0 == step(cpu, CR[register], rax=value)
    assert CODE == cpu.state.rip


def test_pcide_needs_pcid_zero(cpu):
    cpu.state.cr3 |= 0x18

    assert GP0 == step(cpu, CR[4], rax=CR4_PAE | CR4_PCIDE)
    cpu.state.cr3 &= ~0xFFF
    assert step(cpu, CR[4], rax=CR4_PAE | CR4_PCIDE) is None


@pytest.mark.parametrize(
    "code", ["0f22c0", "0f06", "0f30", "0f32", "f4", "0f0138", "0f01f0", "0f00d8"]
)
def test_privileged_instructions_need_cpl_0(cpu, code):
    cpu.state.cpl = 3
    cpu.refresh()

    assert GP0 == step(cpu, code, rax=DATA, rcx=0xC0000080)


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0xC0000080, 1 << 1),  # reserved in EFER
        (0xC0000080, EFER_LMA),  # LME cleared with paging on
        (0xC0000082, 1 << 63),  # LSTAR not canonical
        (0xC0000100, 1 << 47),  # FS base not canonical
        (0xC0000084, 1 << 32),
        (0x277, 2),  # no memory type 2
        (0x401, 1),
        (0x79A, 0),  # no such MSR
    ],
)
def test_illegal_values_of_msrs_give_gp(cpu, index, value):
    fault = step(cpu, WRMSR, rcx=index, rax=value & 0xFFFFFFFF, rdx=value >> 32)

    assert GP0 == fault


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0xC0000080, EFER_LME | EFER_LMA | 1),
        (0xC0000082, 0xFFFF_8000_1234_5678),
        (0xC0000101, 0x0000_7FFF_FFFF_F000),
        (0x277, 0x0007_0406_0007_0106),
        (0x10, 0x1234_5678_9ABC_DEF0),
    ],
)
def test_msrs_keep_what_was_written(cpu, index, value):
    step(cpu, WRMSR, rcx=index, rax=value & 0xFFFFFFFF, rdx=value >> 32)
    cpu.state.rip = CODE
    fault = step(cpu, RDMSR)

    assert fault is None
    assert value == cpu.state.rdx << 32 | cpu.state.rax


@pytest.mark.parametrize(
    ("code", "selector", "fault"),
    [
        ("8ed8", DATA0, None),  # mov ds, eax
        ("8ed8", CODE64, None),
        ("8ed8", 0, None),
        ("8ed8", TSS_AT, (Vector.GP, TSS_AT)),
        ("8ed8", ABSENT, (Vector.NP, ABSENT)),
        ("8ed8", 0x58, (Vector.GP, 0x58)),  # beyond the limit
        ("8ed8", 0x0C, (Vector.GP, 0x0C)),  # no LDT
        ("8ed0", DATA0, None),  # mov ss, eax
        ("8ed0", 0, None),
        ("8ed0", 3, GP0),
        ("8ed0", CODE64, (Vector.GP, CODE64)),
        ("8ed0", ABSENT, (Vector.SS, ABSENT)),
        ("8ed0", DATA_USER, (Vector.GP, 0x20)),
    ],
)
def test_segment_loads_check_descriptors(cpu, code, selector, fault):
    cpu.state.segment_rights[LDTR] = UNUSABLE

    assert fault == step(cpu, code, rax=selector)


def test_a_load_sets_the_accessed_bit(cpu):
    cpu.memory.load(GDT + 0x10, (DESCRIPTORS[2] & ~(1 << 40)).to_bytes(8, "little"))
    step(cpu, "8ed8", rax=DATA0)

    assert 0x93 == cpu.memory.read(GDT + 0x15, 1)[0]


def test_mov_ss_inhibits_for_one_instruction(cpu):
    step(cpu, "8ed0", rax=DATA0)

    assert cpu.shadow_active()
    cpu.step()
    assert not cpu.shadow_active()


def test_ltr_marks_the_tss_busy(cpu):
    assert step(cpu, "0f00d8", rax=TSS_AT) is None
    assert (TSS, 0x67) == (cpu.state.segment_base[TR], cpu.state.segment_limit[TR])
    assert 0x8B == cpu.memory.read(GDT + TSS_AT + 5, 1)[0]
    cpu.state.rip = CODE
    assert (Vector.GP, TSS_AT) == step(cpu, "0f00d8", rax=TSS_AT)


@pytest.mark.parametrize("code", ["0f0100", "0f0108", "0f00c8", "0f00c0", "0f01e0"])
def test_umip_keeps_users_from_the_tables(cpu, code):
    cpu.state.cpl = 3
    cpu.refresh()

    assert step(cpu, code, rax=DATA) is None
    cpu.state.rip = CODE
    cpu.state.cr4 |= 1 << 11
    assert GP0 == step(cpu, code, rax=DATA)


def frame(cpu, *values):
    cpu.memory.load(STACK, b"".join(v.to_bytes(8, "little") for v in values))


def test_iretq_returns_to_user_mode(cpu):
    frame(cpu, 0x1234, CODE64_USER, 0x202, 0x5678, DATA_USER)

    assert step(cpu, "48cf") is None
    state = cpu.state
    assert (0x1234, 0x5678, 3) == (state.rip, state.rsp, state.cpl)
    assert (CODE64_USER, DATA_USER) == (state.selector[1], state.selector[SS])
    assert 0x202 == cpu.rflags


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ((1 << 47, CODE64, 2, 0, DATA0), GP0),  # RIP not canonical
        ((0, 0, 2, 0, DATA0), GP0),  # null CS
        ((0, DATA0, 2, 0, DATA0), (Vector.GP, DATA0)),
        ((0, CODE64_USER, 2, 0, 0), GP0),  # null SS at CPL 3
        ((0, CODE64_USER, 2, 0, DATA0), (Vector.GP, DATA0)),
        ((0, CODE64, 2, 0, ABSENT), (Vector.SS, ABSENT)),
    ],
)
def test_iretq_checks_what_it_pops(cpu, values, fault):
    frame(cpu, *values)

    assert fault == step(cpu, "48cf")
    assert (CODE, STACK, 0) == (cpu.state.rip, cpu.state.rsp, cpu.state.cpl)


def test_iret_lets_nmis_in_again(cpu):
    frame(cpu, 0, CODE64, 2, STACK, DATA0)
    cpu.nmi_blocked = True
    step(cpu, "48cf")

    assert not cpu.nmi_blocked


def test_a_call_gate_leads_to_its_target(cpu):
    cpu.memory.load(DATA, (0x99).to_bytes(8, "little") + GATE.to_bytes(2, "little"))

    assert step(cpu, "48ff18", rax=DATA) is None  # call m16:64
    assert (CODE, STACK - 16) == (cpu.state.rip, cpu.state.rsp)
    pushed = cpu.memory.read(STACK - 16, 16)
    assert (CODE + 3, CODE64) == (
        int.from_bytes(pushed[:8], "little"),
        int.from_bytes(pushed[8:], "little"),
    )


def test_a_far_jump_enters_compatibility_mode(cpu):
    cpu.state.cpl = 3
    cpu.refresh()
    cpu.memory.load(DATA, (0x4321).to_bytes(4, "little") + CODE_32_USER.to_bytes(2, "little"))

    assert step(cpu, "ff28", rax=DATA) is None
    assert (0x4321, 32) == (cpu.state.rip, cpu.mode.bits)


def test_syscall_and_sysret(cpu):
    state = cpu.state
    state.efer |= 1
    state.star = CODE64 << 32 | 0x10 << 48
    state.lstar, state.sfmask = 0x7777, 0x200
    state.cpl = 3
    cpu.rflags = 0x246
    cpu.refresh()

    assert step(cpu, "0f05") is None
    assert (0x7777, CODE + 2, 0x246, 0) == (state.rip, state.rcx, state.r11, state.cpl)
    assert 0x046 == cpu.rflags
    state.rip = CODE
    assert step(cpu, "480f07") is None
    assert (CODE + 2, 3, 0x246) == (state.rip, state.cpl, cpu.rflags)
    assert (0x23, 0x1B) == (state.selector[1], state.selector[SS])


def test_swapgs_and_wrfsbase(cpu):
    cpu.state.kernel_gs_base = 0x1111
    step(cpu, "0f01f8")

    assert 0x1111 == cpu.state.segment_base[5]
    cpu.state.rip = CODE
    assert (Vector.UD, None) == step(cpu, "f3480faed0", rax=0x2222)  # without CR4.FSGSBASE
    cpu.state.cr4 |= 1 << 16
    assert step(cpu, "f3480faed0", rax=0x2222) is None
    assert 0x2222 == cpu.state.segment_base[FS]


def test_the_io_bit_map_decides_above_iopl(cpu):
    step(cpu, "0f00d8", rax=TSS_AT)
    cpu.state.segment_limit[TR] = 0x100
    cpu.memory.load(TSS + 0x66, (0x68).to_bytes(2, "little"))
    cpu.memory.load(TSS + 0x68, b"\xfb" + b"\xff" * 32)
    cpu.state.cpl = 3
    cpu.refresh()
    cpu.state.rip = CODE

    assert step(cpu, "ec", rdx=2) is None  # in al, dx
    cpu.state.rip = CODE
    assert GP0 == step(cpu, "ec", rdx=3)
    assert GP0 == step(cpu, "66ed", rdx=2)  # the second byte is not allowed


def test_fxsave_and_fxrstor_give_the_state_back(cpu):
    state = cpu.state
    state.mxcsr = 0x1FA0
    for i in range(16):
        state.zmm[8 * i], state.zmm[8 * i + 1] = i * 0x1111, ~i & 0xFFFF
    step(cpu, "480fae00", rax=DATA)
    state.mxcsr = 0x1F80
    for i in range(16):
        state.zmm[8 * i] = state.zmm[8 * i + 1] = 0
    state.rip = CODE

    assert step(cpu, "480fae08", rax=DATA) is None
    assert 0x1FA0 == state.mxcsr
    assert [i * 0x1111 for i in range(16)] == [state.zmm[8 * i] for i in range(16)]


@pytest.mark.parametrize("model", ["skylake-x"])
def test_cpuid_tells_what_cr4_enables(cpu, model):
    step(cpu, "0fa2", rax=1)

    assert not cpu.state.rcx >> 27 & 1
    cpu.state.cr4 |= 1 << 18
    cpu.state.rip = CODE
    step(cpu, "0fa2", rax=1)
    assert cpu.state.rcx >> 27 & 1


def test_random_numbers_are_a_fixed_sequence(cpu):
    step(cpu, "480fc7f0")
    first = cpu.state.rax
    other = machines.machine(64)
    other.state.rip = CODE
    step(other, "480fc7f0")

    assert first == other.state.rax
    assert cpu.rflags & 1


RETURNS = (
    (CODE + 0x100, CODE64, 0x202, STACK - 8, DATA0),
    (CODE + 0x100, CODE64, 0x246, STACK - 24, 0),
    (CODE + 0x100, CODE64, 0x10AD7, STACK, DATA0),  # RF and status flags
    (CODE + 0x100, CODE64, 0x243202, STACK, DATA0),  # ID, AC, IOPL
    (CODE + 0x100, CODE64, 0x4302, STACK, DATA0),  # NT, TF
    (1 << 63, CODE64, 0x202, STACK, DATA0),
    (CODE + 0x100, CODE64, 0x202, STACK, ABSENT),
    (CODE + 0x100, 0, 0x202, STACK, DATA0),
    (CODE + 0x100, CODE64_USER, 0x202, STACK, DATA_USER),
    (CODE + 0x100, CODE64_USER, 0x10A02, STACK, DATA_USER),  # RF
    (CODE + 0x100, CODE64_USER, 0x40202, STACK, DATA_USER),  # AC
    (CODE + 0x100, CODE64_USER, 0x202, STACK, DATA0),
    (CODE + 0x100, CODE64_USER, 0x202, STACK, 0),
    (CODE + 0x100, CODE64, 0x202, STACK, DATA_USER),
)


@pytest.mark.parametrize("stack", [DATA0, 0])
@pytest.mark.parametrize("values", RETURNS)
@pytest.mark.parametrize(("where", "descriptor"), [(0, 0), (1, 0), (1, 0xF), (2, 0), (2, 1 << 40)])
def test_iretq_compiled_does_what_it_does_in_full(values, stack, where, descriptor):
    outcomes = []
    for nt in (0, 1 << 14):
        for fully in (False, True):
            cpu = privileged_machine()
            cpu.memory.load(
                GDT + 8 * where, (DESCRIPTORS[where] ^ descriptor).to_bytes(8, "little")
            )
            for seg, number in ((1, CODE64), (SS, stack)):
                at = DESCRIPTORS[number // 8]
                cpu.state.selector[seg] = number
                cpu.state.segment_rights[seg] = at >> 40 & 0xF0FF if number else UNUSABLE
                cpu.state.segment_limit[seg] = 0xFFFFFFFF if number else 0
            cpu.state.rflags |= nt
            cpu.refresh()
            frame(cpu, *values)
            cpu.nmi_blocked = True
            if fully:
                trapped = frozenset(("IRETQ",))
                cpu.modes = tuple(mode._replace(trapped=trapped) for mode in cpu.modes)
                cpu.state.mode_slot = cpu.code.mode_slot(cpu.mode)
            fault = step(cpu, "48cf")
            state = cpu.state
            segments = [
                (state.selector[s], state.segment_base[s], state.segment_limit[s],
                 state.segment_rights[s]) for s in range(6)
            ]  # fmt: skip
            # where no breakpoint is enabled, RF has nothing to suppress and goes at once
            flags = cpu.rflags & ~RF
            blocked = cpu.nmi_blocked and fault is None
            outcomes.append((fault, blocked, state.rip, state.rsp, flags, state.cpl, segments))

    assert outcomes[1] == outcomes[0]
    assert outcomes[3] == outcomes[2]


def test_swapgs_changes_the_base_that_accesses_use(cpu):
    cpu.state.segment_base[GS], cpu.state.kernel_gs_base = DATA, DATA + 0x100
    cpu.memory.load(DATA + 0x110, b"\x77")
    cpu.refresh()

    assert step(cpu, "0f01f8") is None
    assert (DATA + 0x100, DATA) == (cpu.state.segment_base[GS], cpu.state.kernel_gs_base)
    assert step(cpu, "658a042510000000", rip=CODE) is None  # mov al, gs:[10h]
    assert 0x77 == cpu.state.rax & 0xFF


def test_swapgs_is_privileged(cpu):
    cpu.state.cpl = 3
    cpu.refresh()

    assert GP0 == step(cpu, "0f01f8")


@pytest.mark.parametrize(("code", "kept"), [("8cd0", 0), ("668cd0", 0xFFFF0000), ("488cd0", 0)])
def test_a_selector_is_extended_to_the_register(cpu, code, kept):
    assert step(cpu, code, rax=0xFFFFFFFF) is None
    assert kept | DATA0 == cpu.state.rax


def test_a_selector_is_stored_in_two_bytes(cpu):
    cpu.memory.load(DATA, b"\xff" * 4)

    assert step(cpu, "8c13", rbx=DATA) is None  # mov [rbx], ss
    assert bytes([DATA0, 0, 0xFF, 0xFF]) == cpu.memory.read(DATA, 4)


RDPMC = "0f33"


def test_rdpmc_has_no_counter_on_intel(cpu):
    assert GP0 == step(cpu, RDPMC, rcx=0)


@pytest.mark.parametrize("number", range(4))
def test_rdpmc_reads_the_counters_of_amd(cpu, number):
    cpu.model = MODELS["zen3"]
    cpu.msrs[0xC0010004 + number] = 0x1234_5678_9ABC_DEF0

    assert step(cpu, RDPMC, rcx=number) is None
    assert (0x9ABCDEF0, 0x5678) == (cpu.state.rax, cpu.state.rdx)


def test_rdpmc_of_a_counter_that_amd_does_not_have(cpu):
    cpu.model = MODELS["zen3"]

    assert GP0 == step(cpu, RDPMC, rcx=4)

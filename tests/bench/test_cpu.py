"""The loops of the processor's benchmark: counted without running them, the same everywhere."""

import pytest
import unicorn
from unicorn import x86_const

from bench import bench_cpu
from bench.emulators import Bochs, emulators, prepared, run_to_halt
from bench.loops import CODE, LOOPS, STACK, boot_sector

COUNT = {"alu": 1000, "crc": 100, "copy": 2, "sieve": 2, "fib": 12}
by_name = pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)


@by_name
def test_instructions_are_known_without_running(loop):
    count = COUNT[loop.name]

    assert bench_cpu.retired(loop, count) == bench_cpu.instructions(loop, count)


@by_name
def test_a_count_is_the_largest_that_fits(loop):
    count = bench_cpu.count_for(loop, 3_000_000)

    assert 0.9 < bench_cpu.instructions(loop, count) / 3_000_000 <= 1 or loop.name == "fib"


@by_name
def test_unicorn_ends_with_the_same_registers(loop):
    cpu = prepared(loop, COUNT[loop.name])
    run_to_halt(cpu)
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    uc.mem_map(0, 16 << 20)
    uc.mem_write(CODE, loop.subroutine(COUNT[loop.name]))
    uc.mem_write(STACK - 8, (CODE - 0x1000).to_bytes(8, "little"))
    uc.reg_write(x86_const.UC_X86_REG_RSP, STACK - 8)
    uc.emu_start(CODE, CODE - 0x1000)
    names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp")
    theirs = [uc.reg_read(getattr(x86_const, f"UC_X86_REG_{name.upper()}")) for name in names]

    assert theirs == [getattr(cpu.state, name) for name in names]


@by_name
def test_a_boot_sector_is_one(loop):
    image = boot_sector(loop.subroutine(1))

    assert (512, b"\x55\xaa") == (len(image), image[-2:])


def test_an_emulator_that_is_not_there_says_so():
    assert "no-such-bochs is not installed" == Bochs("x", "no-such-bochs").missing()
    assert ["", ""] == [emulator.missing() for emulator in emulators()[:2]]


@by_name
def test_a_loop_runs_once_at_least(loop):
    assert bench_cpu.count_for(loop, 1000) >= 1

"""The emulators that are compared: how each runs a loop, and what it takes of the processor."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Protocol

from bench.loops import CODE, STACK, Loop, boot_sector
from emu.cpu.cpu import Cpu, Stop
from emu.cpu.regions.hot import HOT, Regions, at_once
from tests.emu.cpu import machines

SLICE = 4_000_000
FLOPPY = 1_474_560
BOCHS_SETTINGS = """\
megs: 64
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
floppya: 1_44={image}, status=inserted
boot: floppy
log: /dev/null
panic: action=fatal
cpu: model=corei7_haswell_4770, ips=4000000
clock: sync=none
speaker: enabled=0
"""
BOCHS_ALONE = "display_library: nogui\n"
BOCHS_OF_DEBIAN = """\
display_library: rfb, options="timeout=0"
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
"""
PATIENCE = 60  # seconds


class Emulator(Protocol):
    """Something that runs a loop."""

    name: str
    size: int
    """Instructions that a run of it should have."""

    def missing(self) -> str:
        """Why it cannot run here; empty when it can."""

    def seconds(self, loop: Loop, count: int) -> float:
        """Seconds of processor time for a run of the loop, start included."""


def prepared(loop: Loop, count: int) -> machines.RecordingCpu:
    """Our processor at the beginning of a loop, which returns to a HLT."""
    cpu = machines.machine(64)
    cpu.stop_at_fault = True
    cpu.memory.load(CODE, loop.subroutine(count))
    cpu.memory.load(CODE - 0x1000, b"\xf4")
    cpu.memory.write(STACK - 8, (CODE - 0x1000).to_bytes(8, "little"))
    cpu.state.rip, cpu.state.rsp, cpu.state.rdx = CODE, STACK - 8, 0
    return cpu


def run_to_halt(cpu: Cpu) -> float:
    """Run until HLT; the seconds that it took."""
    start = time.process_time()
    while cpu.run(SLICE) is Stop.BUDGET:
        pass
    return time.process_time() - start


class Interpreter:
    """Our threaded interpreter, without translation."""

    name = "interpreter"
    size = 40_000_000

    def missing(self) -> str:
        """It is always there."""
        return ""

    def seconds(self, loop: Loop, count: int) -> float:
        """Run it in this process."""
        cpu = prepared(loop, count)
        cpu.code.regions = None
        return run_to_halt(cpu)


class Translated(Interpreter):
    """Our processor with hot code translated; its object code comes from the cache."""

    name = "with translation"
    size = 400_000_000

    def seconds(self, loop: Loop, count: int) -> float:
        """Run it in this process, and translate there."""
        cpu = prepared(loop, count)
        cpu.code.regions = Regions(cpu.code, at_once, HOT)
        return run_to_halt(cpu)


class Unicorn:
    """Unicorn, as its wheel from PyPI is."""

    name = "Unicorn"
    size = 40_000_000

    def missing(self) -> str:
        """Whether the wheel is installed."""
        try:
            import unicorn  # noqa: F401, PLC0415
        except ImportError:
            return "the unicorn package is not installed"
        return ""

    def seconds(self, loop: Loop, count: int) -> float:
        """Run it in this process: its memory is flat, without paging."""
        import unicorn  # noqa: PLC0415
        from unicorn import x86_const  # noqa: PLC0415

        uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        uc.mem_map(0, 16 << 20)
        uc.mem_write(CODE, loop.subroutine(count))
        uc.mem_write(STACK - 8, (CODE - 0x1000).to_bytes(8, "little"))
        uc.reg_write(x86_const.UC_X86_REG_RSP, STACK - 8)
        start = time.process_time()
        uc.emu_start(CODE, CODE - 0x1000)
        return time.process_time() - start


def child_seconds(command: list[str], image: Path) -> float:
    """Processor time of a command that runs a machine until that ends itself.

    Raises TimeoutExpired for one that does not.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command,
        cwd=image.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Qemu:
    """QEMU's translator, TCG."""

    name = "QEMU TCG"
    size = 400_000_000
    program = "qemu-system-x86_64"

    def missing(self) -> str:
        """Whether it is installed."""
        return "" if shutil.which(self.program) else f"{self.program} is not installed"

    def seconds(self, loop: Loop, count: int) -> float:
        """Boot it from the loop's boot sector."""
        with tempfile.TemporaryDirectory() as directory:
            image = Path(directory) / "disk"
            image.write_bytes(boot_sector(loop.subroutine(count)))
            command = [
                self.program, "-accel", "tcg", "-display", "none", "-m", "64", "-no-reboot",
                "-drive", f"file={image},format=raw", "-device", "isa-debug-exit,iobase=0xf4",
            ]  # fmt: skip
            return child_seconds(command, image)


class Bochs:
    """Bochs: Debian's package, or the build that NESTLING_BOCHS names."""

    size = 10_000_000

    def __init__(self, name: str, program: str) -> None:
        self.name, self.program = name, program

    def missing(self) -> str:
        """Whether it is installed."""
        return "" if shutil.which(self.program) else f"{self.program or 'it'} is not installed"

    def seconds(self, loop: Loop, count: int) -> float:
        """Boot it from the loop's boot sector on a floppy disk."""
        help_text = subprocess.run(
            [self.program, "--help"], capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
        debugger = b"-rc " in help_text.stdout + help_text.stderr
        with tempfile.TemporaryDirectory() as directory:
            image = Path(directory) / "floppy"
            image.write_bytes(boot_sector(loop.subroutine(count)).ljust(FLOPPY, b"\0"))
            settings, commands = Path(directory) / "settings", Path(directory) / "commands"
            of_build = BOCHS_OF_DEBIAN if debugger else BOCHS_ALONE
            settings.write_text(BOCHS_SETTINGS.format(image=image) + of_build)
            commands.write_text("c\n")
            command = [self.program, "-q", "-f", str(settings)]
            command += ["-rc", str(commands)] if debugger else []
            return child_seconds(command, image)


def emulators() -> list[Emulator]:
    """All that are compared."""
    return [
        Interpreter(),
        Translated(),
        Unicorn(),
        Qemu(),
        Bochs("Bochs, Debian's package", "bochs"),
        Bochs("Bochs, NESTLING_BOCHS", os.environ.get("NESTLING_BOCHS", "")),
    ]

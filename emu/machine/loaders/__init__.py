"""Loaders: an image goes into a board's memory, and its first processor is ready to enter it."""

from __future__ import annotations

from collections.abc import Sequence

from emu.errors import InputError
from emu.machine.board import Board
from emu.machine.loaders import elf, linux, multiboot
from emu.machine.loaders.multiboot import Module
from emu.machine.loaders.placement import Placement
from emu.machine.processor import EntryState

__all__ = ["Module", "load"]


def load(
    board: Board,
    image: bytes,
    name: str,
    command_line: str = "",
    initrd: bytes = b"",
    modules: Sequence[Module] = (),
    decompress: bool = False,
) -> EntryState:
    """Load `image`, whichever of the known kinds it is, and let the board enter it.

    An initial RAM disk is the first module of a Multiboot image; a 32-bit ELF file without a
    Multiboot header is entered in the same state and told nothing. Raises InputError, whose message
    begins with `name`, for an image that is none of them, cut short, or larger than memory.
    """
    if linux.is_bzimage(image):
        _no_modules(name, modules)
        state = linux.load_bzimage(board, image, name, command_line, initrd, decompress)
    elif multiboot.find_header(image) is not None:
        found = (Module(initrd), *modules) if initrd else modules
        state = multiboot.load(board, image, name, command_line, found)
    elif elf.is_elf(image):
        _no_modules(name, modules)
        executable = elf.parse(image, name)
        if executable.bits == 64:
            state = linux.load_vmlinux(board, image, name, command_line, initrd)
        else:
            state = _load_plain(board, executable, name, command_line, initrd)
    else:
        raise InputError(f"{name}: neither a Multiboot image, nor a Linux kernel, nor an ELF file")
    board.enter(state)
    return state


def _load_plain(
    board: Board, executable: elf.Executable, name: str, command_line: str, initrd: bytes
) -> EntryState:
    if command_line or initrd:
        raise InputError(f"{name}: a 32-bit ELF file without a Multiboot header takes no arguments")
    Placement(board, name).put_executable(executable)
    return multiboot.protected_mode(executable.entry, {})


def _no_modules(name: str, modules: Sequence[Module]) -> None:
    if modules:
        raise InputError(f"{name}: only a Multiboot image takes modules")

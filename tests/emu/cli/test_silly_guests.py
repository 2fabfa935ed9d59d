"""Guests and images that do silly things get the architecture's answer, or one line."""

from __future__ import annotations

import os

import pytest

from tests.emu.cli.conftest import process
from tests.emu.cli.guests import write
from tests.emu.machine.loaders.images import bzimage, elf

LIMIT = ("--max-instructions", 2000)


@pytest.mark.parametrize(
    ("guest", "status", "words"),
    [
        ("triple fault", 125, "triple fault; 0 instructions"),
        ("nowhere", 125, "triple fault; 2 instructions"),
        ("on a device", 125, "triple fault"),
        ("in ROM", 125, "triple fault"),
        ("self-modifying", 1, "the guest wrote its exit status; "),
        ("endless", 124, "the limit of instructions or ticks is reached; 2000 instructions"),
        ("storm", 125, "exceptions follow one another, and no instruction comes to an end; 10 "),
    ],
)
def test_a_guest_gets_the_answer_of_the_architecture(nestling, tmp_path, guest, status, words):
    answer = nestling("run", "--bare", write(tmp_path, guest), *LIMIT)

    assert status == answer.code
    assert words in answer.complaint


@pytest.mark.parametrize("guest", ["nowhere", "on a device", "self-modifying", "triple fault"])
def test_a_trace_of_it_ends_as_well(nestling, tmp_path, guest):
    answer = nestling("trace", "--bare", write(tmp_path, guest), "--count", 1000)

    assert 0 == answer.code
    assert "Traceback" not in answer.err


BAD_IMAGES = {
    "empty": (b"", "neither a Multiboot image, nor a Linux kernel, nor an ELF file"),
    "text": (b"#!/bin/sh\n" * 100, "neither a Multiboot image"),
    "ELF, cut in its header": (elf()[:20], "truncated in the ELF header"),
    "ELF, cut in its segment": (elf()[:-20], "truncated: segment 0"),
    "ELF for ARM": (elf(machine=40), "for machine 40, not for x86"),
    "ELF beyond RAM": (elf(segments=((0x7000_0000, b"x", 64),)), "which are not RAM"),
    "bzImage, cut": (bzimage()[:2000], "truncated"),
    "old bzImage": (bzimage(version=0x0203), "without a 64-bit entry point"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
@pytest.mark.parametrize("command", ["run", "trace"])
def test_a_bad_image_is_refused_in_one_line(nestling, tmp_path, command, name):
    content, words = BAD_IMAGES[name]
    path = tmp_path / "image"
    path.write_bytes(content)
    answer = nestling(command, "--bare", path)

    assert 2 == answer.code
    assert words in answer.complaint
    assert answer.complaint.startswith(f"nestling: {path}: ")


def test_an_image_that_is_no_file_is_refused_in_one_line(nestling, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, words in (
        (tmp_path, "Is a directory"),
        ("/dev/zero", "is no regular file"),
        (pipe, "is no regular file"),
        (tmp_path / "missing", "No such file or directory"),
    ):
        answer = nestling("run", "--bare", path)

        assert 2 == answer.code
        assert words in answer.complaint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory", "2M"), "which are not RAM of a machine with 2 MiB"),
        (("--memory", "0"), "bytes of memory"),
        (("--memory", "9999999999999G"), "bytes of memory"),
    ],
)
def test_too_little_or_too_much_memory_is_said_in_one_line(nestling, tmp_path, options, words):
    path = tmp_path / "image"
    path.write_bytes(elf(segments=((0x20_0000, b"\x90" * 64, 0x10_0000),)))
    answer = nestling("run", "--bare", path, *options)

    assert 2 == answer.code
    assert words in answer.complaint


def test_a_command_line_of_any_bytes_is_passed_on(tmp_path):
    done = process("run", "--bare", write(tmp_path, "long mode"), "--append", b"\xff\xfe".decode(
        "utf-8", "surrogateescape"))  # fmt: skip

    assert 7 == done.returncode
    assert "Traceback" not in done.stderr


def test_a_program_of_an_operating_system_is_no_image(nestling):
    answer = nestling("run", "--bare", "/bin/sh")

    assert 2 == answer.code
    assert "a program of an operating system, not an image that boots" in answer.complaint

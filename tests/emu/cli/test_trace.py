"""`nestling trace` and `nestling run --trace`."""

from __future__ import annotations

import json

import pytest

from tests.emu.cli.guests import OUTPUT, STATUS, write


@pytest.fixture
def image(tmp_path):
    return write(tmp_path, "long mode")


@pytest.fixture
def endless(tmp_path):
    return write(tmp_path, "endless")


def test_each_instruction_is_shown_with_what_it_changed(nestling, image):
    answer = nestling("trace", "--bare", image)
    lines = answer.out.splitlines()

    assert 0 == answer.code
    assert 39 == len(lines)  # 38 instructions, and UD2
    assert (
        "        0 0 0008:0010000c  mov esp,0x114000                      esp=0x114000" == lines[0]
    )
    assert lines[13].endswith("or eax,0x100                          eax=0x100  +PF")
    assert lines[5].endswith("[0x110000]<-0x111003 (4)")
    assert lines[28].endswith("(40)  #UD")
    assert lines[31].endswith("out dx,al                             OUT 0x3f8 <- 0x55")
    assert OUTPUT.decode() in answer.err
    assert answer.err.endswith("nestling: the guest wrote its exit status\n")


def test_a_trace_begins_where_it_is_told_and_has_so_many_lines(nestling, image, endless):
    by_number = nestling("trace", "--bare", image, "--from", 28, "--count", 2)
    by_address = nestling("trace", "--bare", image, "--at", "rip:0x1000a5", "--count", 2)

    assert by_number == by_address
    assert ["ud2", "mov"] == [line.split()[3] for line in by_number.out.splitlines()]
    assert "" == nestling("trace", "--bare", endless, "--count", 3).err


def test_a_trace_for_machines_has_a_json_object_a_line(nestling, image):
    lines = nestling("trace", "--bare", image, "--from", 5, "--count", 10, "--json").out
    steps = [json.loads(line) for line in lines.splitlines()]

    assert list(range(5, 15)) == [step["number"] for step in steps]
    assert "c7050000110003101100" == steps[0]["data"]
    assert {"linear": 0x110000, "size": 4, "writes": True, "value": 0x111003} == steps[0][
        "accesses"
    ][0]
    assert [0, 0x110000] == steps[3]["changes"]["cr3"]
    assert ["RDMSR 0xc0000080 = 0x0"] == steps[7]["events"]


def test_what_does_not_come_is_said_in_one_line(nestling, image):
    answer = nestling("trace", "--bare", image, "--at", "rip:0x55")

    assert 1 == answer.code
    assert "rip:0x55 does not come: the guest wrote its exit status after 38" in answer.err


@pytest.mark.parametrize(
    "arguments", [("--at", "nowhere"), ("--from", 1, "--at", "exit:1"), ("--count", 0)]
)
def test_wrong_usage_exits_2(nestling, image, arguments):
    answer = nestling("trace", "--bare", image, *arguments)

    assert 2 == answer.code
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("kind", "lines", "one"),
    [
        ("exec", 39, "       28 0 0008:00000000001000a5  0f 0b                           ud2"),
        ("mem", 15, "        5 0 0008:00100022  [0x110000]<-0x111003 (4)"),
        ("events", 16, "       16 0 0x0000000000100059  CR0 0x11 -> 0x80000011"),
    ],
)
def test_a_run_is_traced_into_a_file(nestling, image, tmp_path, kind, lines, one):
    path = tmp_path / "trace"
    answer = nestling("run", "--bare", image, "--trace", kind, "--trace-file", path)
    written = path.read_text().splitlines()

    assert STATUS == answer.code
    assert OUTPUT.decode() == answer.out
    assert "38 instructions" in answer.err
    assert lines <= len(written) < 2 * lines
    assert one in written


def test_kinds_of_traces_go_together_on_stderr(nestling, image):
    answer = nestling("run", "--bare", image, "--trace", "exec", "--trace", "events")

    assert "#UD" in answer.err
    assert "ud2" in answer.err
    assert OUTPUT.decode() == answer.out


def test_a_trace_file_without_a_trace_is_refused(nestling, image, tmp_path):
    assert 2 == nestling("run", "--bare", image, "--trace-file", tmp_path / "x").code

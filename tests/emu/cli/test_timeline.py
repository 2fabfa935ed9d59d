"""`nestling trace --vmx` and `nestling vmcs`: guest mode as a timeline, and control structures."""

from __future__ import annotations

import json

import pytest

KINDS = ("vmx", "svm")
CALLS = {"vmx": "VMCALL", "svm": "VMMCALL"}
FAULTS = {"vmx": "EPT_VIOLATION", "svm": "NPF"}


def visits(nestling, image, *options):
    answer = nestling("trace", "--vmx", "--bare", image, "--json", *options)
    return [json.loads(line) for line in answer.out.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_each_visit_of_guest_mode_is_a_line_with_its_reason(nestling, kind):
    answer = nestling("trace", "--vmx", "--bare", f"{kind}-faults")
    lines = answer.out.splitlines()

    assert 0 == answer.code
    assert "exit" == lines[0].split()[0]
    assert [FAULTS[kind]] * 4 + [CALLS[kind]] == [line.split()[5] for line in lines[1:6]]
    assert [FAULTS[kind], "10"] == lines[-2].split()[:2]
    assert "L1: L2 is done" in answer.err


@pytest.mark.parametrize("kind", KINDS)
def test_the_cost_of_host_and_guest_add_up_to_the_instructions_run(nestling, kind):
    seen = visits(nestling, f"{kind}-faults")

    assert list(range(1, 14)) == [visit["number"] for visit in seen]
    assert seen[-1]["instruction"] == sum(visit["host"] + visit["guest"] for visit in seen)


@pytest.mark.parametrize("kind", KINDS)
def test_events_injected_and_events_in_delivery_are_told(nestling, kind):
    seen = visits(nestling, f"{kind}-inject", "--count", 5)

    assert "interrupt 0x50" == seen[1]["injected"]
    assert "VECTOR=0x50" == seen[1]["exit"]["delivering"][0]
    assert "#GP error 0x1234" == seen[4]["injected"]
    assert 5 == len(seen)


def test_two_runs_have_the_same_timeline(nestling):
    assert visits(nestling, "vmx-faults") == visits(nestling, "vmx-faults")


def sections(nestling, *options):
    (structure,) = nestling("vmcs", "--bare", *options, "--json").json
    named = {s["title"]: {m["name"]: m for m in s["members"]} for s in structure["sections"]}
    return structure, named


def test_the_current_vmcs_is_printed_at_an_exit(nestling):
    structure, named = sections(nestling, "vmx-faults", "--at", "exit:6")

    assert ("VMCS", False) == (structure["structure"], structure["in_guest"])
    assert 0x800000 == named["read only data"]["GUEST_PHYSICAL_ADDRESS"]["value"]
    assert "DATA_WRITE" in named["read only data"]["EXIT_QUALIFICATION"]["meaning"]
    assert ["ENABLE_EPT"] == named["control"]["SECONDARY_VM_EXEC_CONTROL"]["meaning"]
    assert "VM_ENTRY_INTR_INFO_FIELD" not in named["control"]


def test_the_vmcb_is_printed_at_an_exit(nestling):
    structure, named = sections(nestling, "svm-faults", "--at", "exit:6")

    assert ("VMCB", False) == (structure["structure"], structure["in_guest"])
    assert ["NPF"] == named["VMCB"]["exit_code"]["meaning"]
    assert 0x800000 == named["VMCB"]["exit_info_2"]["value"]


def test_fields_are_printed_by_encoding_and_name(nestling):
    lines = nestling("vmcs", "--bare", "vmx-faults", "--all").out.splitlines()

    assert "processor 0: VMCS at 0x110000; host mode" == lines[0]
    assert any(line.split()[:2] == ["0x4402", "VM_EXIT_REASON"] for line in lines)
    assert any(line.split()[:3] == ["0x4016", "VM_ENTRY_INTR_INFO_FIELD", "0x0"] for line in lines)


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("exit:600", "exit:600 does not come"),
        ("instruction:50", "no processor has a VMCS or VMCB at instruction:50"),
    ],
)
def test_a_moment_without_a_control_structure_is_an_error(nestling, moment, words):
    answer = nestling("vmcs", "--bare", "vmx-faults", "--at", moment)

    assert 1 == answer.code
    assert words in answer.err.splitlines()[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_under_a_kernel_each_exit_to_kvm_says_who_was_left_and_who_goes_on(nestling, kind):
    out = nestling(
        "trace", "--vmx", "--kernel", "6.12", f"{kind}-faults", "--json", "--count", 999
    ).out
    seen = [json.loads(line) for line in out.splitlines()]
    ways = [(p["left"], p["goes_on"], p["exit"]["name"]) for p in seen]

    assert list(range(1, len(seen) + 1)) == [p["number"] for p in seen]
    assert 10 == ways.count(("L2", "L1", FAULTS[kind]))
    assert 13 == sum(way[:2] == ("L1", "L2") for way in ways)


def test_under_a_kernel_the_three_structures_stand_side_by_side(nestling):
    (vcpu,) = nestling("vmcs", "--kernel", "6.12", "vmx-faults", "--at", "exit:134", "--json").json
    fields = {field["name"]: field for field in vcpu["fields"]}

    assert not vcpu["in_l2"]
    assert 0x800000 == fields["GUEST_PHYSICAL_ADDRESS"]["vmcs12"]
    assert fields["GUEST_RIP"]["vmcs12"] == fields["GUEST_RIP"]["vmcs02"]
    assert "vmcs12" == fields["GUEST_RIP"]["origin"]
    assert "vmcs01 and vmcs12" == fields["EXCEPTION_BITMAP"]["origin"]


def test_under_a_kernel_fields_that_are_zero_everywhere_are_left_out(nestling):
    lines = nestling("vmcs", "--kernel", "5.10", "svm-faults", "--at", "exit:40").out.splitlines()

    assert ["field", "vmcb01", "vmcb12", "vmcb02"] == lines[1].split()[:4]
    assert not any(line.split()[1:4] == ["0x0"] * 3 for line in lines[2:])

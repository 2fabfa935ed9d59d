"""Moves there and back, over every ordered pair of releases."""

from functools import cache
from itertools import product

import pytest

from emu.migration.capture import shipped
from emu.migration.contents import contents_of_blob
from emu.migration.matrix import kernel_of
from emu.migration.migrate import Verdict, migrate
from emu.migration.policy import policy
from emu.releases import RELEASES, release

ORDER = list(RELEASES)
FLAGS = policy("flags")

# The first release that takes the capture, and the first that keeps all of it.
SINCE = {
    "vmx-l1-vmxon": ("4.20", "4.20"),
    "vmx-l1-current-vmcs": ("4.19", "4.19"),
    "vmx-l2-running": ("4.19", "4.19"),
    "vmx-l2-entry-pending": ("4.19", "4.19"),
    "vmx-l2-mtf-pending": ("5.7", "5.7"),
    "vmx-l2-timer": ("4.19", "5.8"),
    "svm-l1-gif-clear": ("5.8", "5.8"),
    "svm-l2-running": ("5.8", "5.8"),
    "svm-l2-entry-pending": ("5.8", "5.11"),
}


@cache
def kernel(name, capture_name):
    return kernel_of(release(name), shipped()[capture_name])


def is_since(name, first):
    return ORDER.index(name) >= ORDER.index(first)


@pytest.mark.parametrize("name", SINCE)
def test_there_and_back_over_every_ordered_pair_of_releases(name):
    """What both kernels can hold comes back; what one of them cannot is refused or lost."""
    capture = shipped()[name]
    takes, keeps = SINCE[name]
    wrong = []
    for source, destination in product(ORDER, ORDER):
        there = migrate(capture, kernel(source, name), kernel(destination, name), FLAGS)
        if not is_since(source, takes):
            expected = "impossible"
        elif not is_since(destination, takes):
            expected = "refused"
        elif is_since(source, keeps) == is_since(destination, keeps):
            expected = "accepted"
        else:
            expected = "lost"
        if name == "svm-l2-entry-pending" and not is_since(source, keeps) and expected == "lost":
            expected = "accepted"  # the source has forgotten already
        if expected != there.outcome:
            wrong.append((source, destination, expected, there.outcome))
        if expected == "accepted" and is_since(source, keeps) and is_since(destination, keeps):
            back = migrate(there.arrived, kernel(destination, name), kernel(source, name), FLAGS)
            same = contents_of_blob(capture.blob) == contents_of_blob(back.arrived.blob)
            if back.outcome != "accepted" or not same:
                wrong.append((source, destination, "back", back.outcome))

    assert [] == wrong


def test_every_shipped_capture_moves():
    assert set(shipped()) == set(SINCE)


def moved(name, source, destination, **options):
    return migrate(
        shipped()[name], kernel(source, name), kernel(destination, name), FLAGS, **options
    )


def test_an_accepted_move_says_what_arrived():
    verdict = moved("vmx-l2-running", "5.4", "6.12")

    assert ("5.4", "6.12", "flags", "accepted", "done") == (
        verdict.source,
        verdict.destination,
        verdict.policy,
        verdict.outcome,
        verdict.stage,
    )
    assert shipped()["vmx-l2-running"].blob == verdict.arrived.blob
    assert verdict.left["guest_mode"] == verdict.held["guest_mode"] == 1
    assert {} == verdict.grown


def test_a_state_that_the_source_does_not_take_is_impossible():
    verdict = moved("vmx-l2-mtf-pending", "5.4", "6.12")

    assert ("impossible", "source boot", "flags_known") == (
        verdict.outcome,
        verdict.stage,
        verdict.rule,
    )
    assert verdict.arrived is None


def test_a_source_that_cannot_enter_l2_is_impossible():
    capture = shipped()["vmx-l2-running"]
    blob = bytearray(capture.blob)
    blob[128 + 432 : 128 + 440] = (1 << 60).to_bytes(8, "little")
    name = "vmx-l2-running"
    verdict = migrate(
        capture.with_blob(bytes(blob)), kernel("6.12", name), kernel("6.12", name), FLAGS
    )

    assert ("impossible", "entry_to_l2") == (verdict.outcome, verdict.rule)
    assert "the ioctl returned 2" == verdict.detail


def test_steps_are_watched_in_order():
    steps = []
    moved("vmx-l2-running", "5.4", "6.12", watch=lambda step, what: steps.append((step, what)))

    assert ["source boot", "save", "restore registers", "restore nested state"] == [
        step for step, _ in steps
    ]
    assert steps[1][1]["blob"] == steps[3][1]["blob"] == shipped()["vmx-l2-running"].blob


def test_a_refused_step_is_watched_with_its_rule():
    steps = []
    moved("vmx-l2-mtf-pending", "6.12", "5.4", watch=lambda step, what: steps.append((step, what)))

    assert ("restore nested state", "flags_known") == (steps[-1][0], steps[-1][1]["rule"])


def test_a_journey_compares_its_end_with_its_start():
    start = Verdict("a", "b", "flags", "accepted", left={"x": 1, "y": 0})

    assert ["x"] == [item.name for item in start.held_lost({"x": 2})]
    assert () == start.held_lost({"x": 1, "y": 0, "z": 5})

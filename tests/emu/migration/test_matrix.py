import pytest

from emu.migration.capture import shipped
from emu.migration.matrix import (
    COLOURS,
    MARKS,
    OUTCOMES,
    SCENARIOS,
    WORDS,
    Tally,
    draw,
    journey,
    kernel_of,
    matrix,
    round_trip,
    tally,
)
from emu.migration.migrate import Verdict
from emu.migration.policy import policy
from emu.migration.scenarios import example_kernels, example_pools
from emu.releases import release

MTF = shipped()["vmx-l2-mtf-pending"]
FEW = [release(name) for name in ("5.4", "5.7", "6.12")]
FLAGS = policy("flags")
PAGE = next(kernel for kernel in example_kernels() if kernel.name.endswith("page"))


def hosts(old, new, how):
    return {
        letter: kernel_of(policy(how).announce(kernel), MTF)
        for letter, kernel in (("O", old), ("N", new))
    }


def test_a_matrix_has_a_verdict_for_every_pair():
    seen = []
    made = matrix(MTF, FEW, FEW[1:], FLAGS, lambda *at: seen.append(at))
    outcomes = [[verdict.outcome for verdict in row] for row in made.cells]

    assert (("5.4", "5.7", "6.12"), ("5.7", "6.12")) == (made.sources, made.destinations)
    assert [["impossible"] * 2, ["accepted"] * 2, ["accepted"] * 2] == outcomes
    assert {"accepted": 4, "lost": 0, "refused": 0, "impossible": 2} == made.counts
    assert [(2, 6), (4, 6), (6, 6)] == seen


def test_reasons_are_counted_most_frequent_first():
    made = matrix(MTF, FEW[1:], FEW, FLAGS)
    timer = matrix(shipped()["vmx-l2-timer"], FEW[2:], FEW, FLAGS)

    assert [("refused", "flags_known", 2)] == made.reasons
    assert [
        ("lost", "preemption_timer", 2),
        ("lost", "preemption_timer_deadline", 2),
    ] == timer.reasons


def test_every_outcome_has_a_mark_a_colour_and_words():
    for table in (MARKS, COLOURS, WORDS):
        assert set(OUTCOMES) == set(table)
        assert len(OUTCOMES) == len(set(table.values()))


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_a_picture_is_the_same_at_every_drawing(tmp_path, suffix, magic):
    made = [matrix(MTF, FEW, FEW, policy(how)) for how in ("flags", "size", "version", "qemu")]
    paths = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
    for path in paths:
        draw(made, path)
    first, second = (path.read_bytes() for path in paths)

    assert first.startswith(magic)
    assert first == second


def test_a_picture_shows_what_the_matrix_holds(tmp_path):
    open_way, closed = tmp_path / "open.svg", tmp_path / "closed.svg"
    draw([matrix(MTF, FEW[1:], FEW[1:], FLAGS)], open_way)
    draw([matrix(MTF, FEW[1:], FEW[:1], FLAGS)], closed)

    assert open_way.read_bytes() != closed.read_bytes()
    assert "flags: vmx-l2-mtf-pending" in open_way.read_text()


def test_a_journey_ends_where_a_host_refuses():
    moves = journey(MTF, hosts(FEW[0], FEW[2], "flags"), "NONO", FLAGS, in_use=True)

    assert ["refused"] == [verdict.outcome for verdict in moves]


def test_a_guest_takes_along_what_it_holds():
    kernels = hosts(release("6.12"), PAGE, "size")
    moves = journey(MTF, kernels, "NNON", policy("size"), in_use=True)
    held = [verdict.held.get("grown.vmx_extension") for verdict in moves]

    assert ["accepted", "lost", "accepted"] == [verdict.outcome for verdict in moves]
    assert [0x1122334455667788, None, 0] == held
    assert "lost" == round_trip(moves).outcome


def test_a_journey_that_keeps_everything_is_accepted_as_a_whole():
    kernels = hosts(release("6.12"), PAGE, "size")
    moves = journey(MTF, kernels, "NON", policy("size"), in_use=False)

    assert "accepted" == round_trip(moves).outcome


def test_a_journey_that_was_refused_is_refused_as_a_whole():
    kernels = hosts(release("6.12"), PAGE, "flags")
    moves = journey(MTF, kernels, "NON", FLAGS, in_use=True)

    assert ["refused"] == [verdict.outcome for verdict in moves]
    assert "refused" == round_trip(moves).outcome


def test_a_tally_counts_each_outcome():
    def verdict(outcome, **more):
        return Verdict("a", "b", "flags", outcome, **more)

    counts = Tally()
    for one in (
        verdict("accepted"),
        verdict("accepted", withheld=("x",)),
        verdict("lost"),
        verdict("refused"),
        verdict("refused"),
    ):
        counts = counts.plus(one)

    assert Tally(kept=1, lossy=1, refused=2, withheld=1) == counts
    assert "1 (+1 withheld) kept, 1 lossy, 2 refused" == str(counts)
    assert "0 kept, 0 lossy, 0 refused" == str(Tally())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_tally_counts_every_journey_once(scenario):
    states = [MTF, shipped()["vmx-l1-vmxon"], shipped()["svm-l2-running"]]
    pools = example_pools()
    counts = tally(scenario, policy("version"), pools, states)

    # Two states of VMX, with the addition in use and not.
    assert len(pools) * len(scenario.journeys) * 2 * 2 == sum(vars(counts).values())

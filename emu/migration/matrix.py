"""Every pair of kernels, and the scenarios of a rolling upgrade: many moves, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Final, NamedTuple

from emu.kvm import Kvm
from emu.kvm.cpu_models import host_of
from emu.kvm.host import ModuleParameters
from emu.migration.capture import Capture
from emu.migration.migrate import (
    ACCEPTED,
    IMPOSSIBLE,
    LOSSY,
    OUTCOMES,
    REFUSED,
    Verdict,
    migrate,
)
from emu.migration.policy import Policy
from emu.releases.schema import Release

MARKS: Final = {ACCEPTED: "+", LOSSY: "~", REFUSED: "x", IMPOSSIBLE: "."}
COLOURS: Final = {
    ACCEPTED: "#3a9d5d",
    LOSSY: "#f2b134",
    REFUSED: "#c8452f",
    IMPOSSIBLE: "#d9d9d9",
}
WORDS: Final = {
    ACCEPTED: "accepted",
    LOSSY: "accepted, but something is lost",
    REFUSED: "refused",
    IMPOSSIBLE: "the source cannot hold this state",
}
Progress = Callable[[int, int], None]


def no_progress(_done: int, _total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Matrix:
    """The verdict for every source (row) and destination (column) under one policy."""

    policy: str
    capture: str
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    cells: tuple[tuple[Verdict, ...], ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of cells with each outcome."""
        found = Counter(verdict.outcome for row in self.cells for verdict in row)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    @property
    def reasons(self) -> list[tuple[str, str, int]]:
        """(outcome, rule or lost content, number of cells), most frequent first."""
        found: Counter[tuple[str, str]] = Counter()
        for row in self.cells:
            for verdict in row:
                if verdict.outcome == REFUSED:
                    found[REFUSED, verdict.rule] += 1
                for item in verdict.lost:
                    found[LOSSY, item.name] += 1
        ordered = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))
        return [(outcome, why, number) for (outcome, why), number in ordered]


def kernel_of(release: Release, capture: Capture) -> Kvm:
    """The release's KVM, nested virtualization on, on the CPU model that the capture belongs on."""
    return Kvm(release, host_of(capture.cpu, release, ModuleParameters(nested=True)))


def matrix(
    capture: Capture,
    sources: Sequence[Release],
    destinations: Sequence[Release],
    policy: Policy,
    progress: Progress = no_progress,
) -> Matrix:
    """Move `capture` from every source to every destination under `policy`."""
    from_kernels = [kernel_of(policy.announce(release), capture) for release in sources]
    to_kernels = [kernel_of(policy.announce(release), capture) for release in destinations]
    total = len(from_kernels) * len(to_kernels)
    cells = []
    for source in from_kernels:
        row = [migrate(capture, source, destination, policy) for destination in to_kernels]
        cells.append(tuple(row))
        progress(len(cells) * len(to_kernels), total)
    return Matrix(
        policy.name,
        capture.name,
        tuple(release.name for release in sources),
        tuple(release.name for release in destinations),
        tuple(cells),
    )


def draw(matrices: Sequence[Matrix], path: Path) -> None:
    """Draw the matrices as heat maps side by side into `path` (.png or .svg)."""
    import matplotlib  # noqa: PLC0415 - only pictures need it

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "nestling"
    from matplotlib import pyplot  # noqa: PLC0415
    from matplotlib.colors import ListedColormap  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    rows, columns = len(matrices[0].sources), len(matrices[0].destinations)
    across = min(len(matrices), 3)
    down = -(-len(matrices) // across)
    size = (across * (1.6 + 0.19 * columns), down * (1.5 + 0.17 * rows) + 0.6)
    figure, axes = pyplot.subplots(down, across, figsize=size, squeeze=False)
    palette = ListedColormap([COLOURS[outcome] for outcome in OUTCOMES])
    for place, axis in enumerate(axes.flat):
        if place >= len(matrices):
            axis.set_axis_off()
            continue
        one = matrices[place]
        levels = [[OUTCOMES.index(verdict.outcome) for verdict in row] for row in one.cells]
        axis.imshow(levels, cmap=palette, vmin=-0.5, vmax=len(OUTCOMES) - 0.5)
        axis.set_xticks(range(columns), one.destinations, rotation=90, fontsize=7)
        axis.set_yticks(range(rows), one.sources, fontsize=7)
        axis.set_xticks([x - 0.5 for x in range(1, columns)], minor=True)
        axis.set_yticks([y - 0.5 for y in range(1, rows)], minor=True)
        axis.grid(which="minor", color="white", linewidth=0.6)
        axis.tick_params(which="both", length=0)
        axis.set_title(f"{one.policy}: {one.capture}", fontsize=9)
        axis.set_xlabel("to", fontsize=8)
        axis.set_ylabel("from", fontsize=8)
    patches = [Patch(color=COLOURS[outcome], label=WORDS[outcome]) for outcome in OUTCOMES]
    figure.legend(
        handles=patches, loc="lower center", ncols=len(patches), fontsize=8, frameon=False
    )
    figure.tight_layout(rect=(0, 0.5 / size[1], 1, 0.98))
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=130, metadata=metadata)
    pyplot.close(figure)


# Scenarios --------------------------------------------------------------------------------------
class Scenario(NamedTuple):
    """Journeys of a guest through old (O) and new (N) kernels: a letter a host.

    `there_and_back` judges the whole journey by what the guest has at its end; otherwise each move
    counts for itself.
    """

    name: str
    title: str
    journeys: tuple[str, ...]
    there_and_back: bool = False


SCENARIOS: Final = (
    Scenario("old to new", "upgrade: from each old host to a new one", ("ON",)),
    Scenario("new to old", "evacuation to a host that is not upgraded", ("NO",)),
    Scenario("mixed pool", "any host to any other", ("OO", "ON", "NO", "NN")),
    Scenario("rollback", "new, back to old, and to new again", ("NON",), there_and_back=True),
)


@dataclass(frozen=True)
class Tally:
    """Counts of kept, lossy and refused journeys; `withheld`: kept, as the guest never had it."""

    kept: int = 0
    lossy: int = 0
    refused: int = 0
    withheld: int = 0

    def plus(self, verdict: Verdict) -> Tally:
        """The tally with one more verdict."""
        if verdict.outcome == REFUSED:
            return replace(self, refused=self.refused + 1)
        if verdict.outcome == LOSSY:
            return replace(self, lossy=self.lossy + 1)
        if verdict.withheld:
            return replace(self, withheld=self.withheld + 1)
        return replace(self, kept=self.kept + 1)

    def __str__(self) -> str:
        kept = f"{self.kept}" if not self.withheld else f"{self.kept} (+{self.withheld} withheld)"
        return f"{kept} kept, {self.lossy} lossy, {self.refused} refused"


class Pool(NamedTuple):
    """An old kernel and the new one that it is upgraded to."""

    old: Release
    new: Release


def journey(
    capture: Capture, kernels: Mapping[str, Kvm], path: str, policy: Policy, *, in_use: bool
) -> list[Verdict]:
    """The moves of one guest along `path`; ends early where one is refused or impossible.

    `kernels` are the hosts by the letters of the path.  `in_use`: where the guest starts on a
    kernel that grew, it uses what that kernel added.
    """
    verdicts: list[Verdict] = []
    grown: Mapping[str, int] | None = None if in_use else {}
    state = capture
    for here, there in pairwise(path):
        verdict = migrate(state, kernels[here], kernels[there], policy, grown=grown)
        verdicts.append(verdict)
        if verdict.outcome in (REFUSED, IMPOSSIBLE) or verdict.arrived is None:
            break
        state, grown = verdict.arrived, verdict.grown
    return verdicts


def tally(
    scenario: Scenario,
    policy: Policy,
    pools: Sequence[Pool],
    captures: Sequence[Capture],
) -> Tally:
    """Every capture, with the new content in use and not, through the scenario's journeys."""
    counts = Tally()
    for pool in pools:
        formats = {item.format for item in pool.new.growth}
        fitting = [c for c in captures if c.format.name.lower() in formats]
        announced = {"O": policy.announce(pool.old), "N": policy.announce(pool.new)}
        kernels = {letter: kernel_of(one, fitting[0]) for letter, one in announced.items()}
        for capture, path, in_use in product(fitting, scenario.journeys, (True, False)):
            moves = journey(capture, kernels, path, policy, in_use=in_use)
            verdict = round_trip(moves) if scenario.there_and_back else moves[-1]
            counts = counts.plus(verdict)
    return counts


def round_trip(moves: Sequence[Verdict]) -> Verdict:
    """One verdict for a journey that ends on the kind of kernel that it began on.

    Refused where a move was refused; lossy where something that was there at the start is not there
    at the end, whatever happened between.
    """
    last = moves[-1]
    if last.outcome in (REFUSED, IMPOSSIBLE):
        return replace(last, outcome=REFUSED)
    missing = tuple(
        item for item in moves[0].held_lost(last.held) if not item.name.startswith("blob.")
    )
    outcome = LOSSY if missing else ACCEPTED
    return replace(last, outcome=outcome, lost=missing, withheld=moves[0].withheld)

"""`nestling judge`: what each kernel says to a nested state."""

from __future__ import annotations

from collections import Counter
from errno import errorcode
from typing import TYPE_CHECKING, Any

import click

from emu.cli.output import folded, json_option, kernels, places, print_json, progress, styled
from emu.migration.capture import Capture
from emu.migration.inputs import read_states
from emu.releases import RELEASES

if TYPE_CHECKING:
    from emu.migration.judge import Judgement

SHOWN_LOST = 4
WORDS = {
    "accepted": "accepted",
    "lost": "accepted, but something is lost",
    "refused": "refused",
}


@click.command()
@click.argument("file")
@click.option("--kernel", "names", multiple=True, help="Kernels to ask: names or .toml files.")
@click.option("--all", "everything", is_flag=True, help="Every release (the default).")
@click.option("--cpu", help="CPU model; default: the one that fits the state's vendor.")
@click.option("--nested/--no-nested", default=True, help="The module parameter `nested`.")
@json_option
@click.pass_context
def judge(
    ctx: click.Context,
    file: str,
    names: tuple[str, ...],
    everything: bool,
    cpu: str | None,
    nested: bool,
    as_json: bool,
) -> None:
    """Say for each kernel whether it takes the nested state in FILE.

    A refusal names the rule, its place in the manual or the kernel, and the value; every other
    broken rule is listed behind it.  Exits 1 when a kernel refuses or loses something.
    """
    from emu.kvm import Kvm  # noqa: PLC0415 - loaded when the arguments are good
    from emu.kvm.cpu_models import host_of  # noqa: PLC0415
    from emu.kvm.host import ModuleParameters  # noqa: PLC0415
    from emu.migration.judge import judge_all  # noqa: PLC0415

    if everything and names:
        raise click.UsageError("--all and --kernel exclude each other")
    states = read_states(file)
    asked = kernels(names)
    parameters = ModuleParameters(nested=nested)
    found: list[tuple[Capture, list[Judgement]]] = []
    for state in states:
        with progress("judging", len(asked)) as advance:
            verdicts = judge_all(
                state,
                asked,
                lambda release, one: Kvm(release, host_of(cpu or one.cpu, release, parameters)),
                advance,
            )
        found.append((state, verdicts))
    if as_json:
        print_json([_as_json(state, verdicts) for state, verdicts in found])
    else:
        for state, verdicts in found:
            _print(state, verdicts)
    good = all(verdict.outcome == "accepted" for _, verdicts in found for verdict in verdicts)
    ctx.exit(0 if good else 1)


def _print(state: Capture, verdicts: list[Judgement]) -> None:
    click.secho(f"{state.name} ({state.format.name}, {len(state.blob)} bytes)", bold=True)
    groups = [(_span(group), group[0]) for group in _grouped(verdicts)]
    first = max(len(names) for names, _ in groups)
    second = max(len(verdict.outcome) for _, verdict in groups)
    beneath = " " * (first + second + 4)
    for names, verdict in groups:
        head = f"{names:<{first}}  {styled(verdict.outcome, verdict.outcome.ljust(second))}"
        lines = _why(verdict)
        click.echo(f"{head}  {lines[0]}".rstrip())
        for line in lines[1:]:
            folded(beneath, line)
        for other in verdict.findings:
            if other.rule != verdict.rule:
                folded(" " * (first + 2), f"also {other.rule}")
                for line in (other.detail, *places(other.section)):
                    folded(beneath, line)
    counts = Counter(verdict.outcome for verdict in verdicts)
    parts = [f"{counts[outcome]} {WORDS[outcome]}" for outcome in WORDS if counts[outcome]]
    number = "1 kernel" if len(verdicts) == 1 else f"{len(verdicts)} kernels"
    click.echo(f"{number}: {', '.join(parts)}\n")


def _grouped(verdicts: list[Judgement]) -> list[list[Judgement]]:
    """Neighbouring kernels that say the same.

    A stable tree that says something else than the release it is based on stands by itself, and
    does not part its neighbours.
    """
    groups: list[list[Judgement]] = []
    mainline: list[Judgement] = []
    for verdict in verdicts:
        stable = verdict.kernel in RELEASES and RELEASES[verdict.kernel].stable
        for group in (mainline, groups[-1] if groups and stable else []):
            if group and _key(group[0]) == _key(verdict):
                group.append(verdict)
                break
        else:
            groups.append([verdict])
            mainline = mainline if stable else groups[-1]
    return groups


def _span(group: list[Judgement]) -> str:
    return group[0].kernel if len(group) == 1 else f"{group[0].kernel} to {group[-1].kernel}"


def _key(verdict: Judgement) -> tuple[Any, ...]:
    broken = tuple((finding.rule, finding.detail) for finding in verdict.findings)
    return verdict.outcome, verdict.rule, verdict.detail, verdict.result, verdict.lost, broken


def _why(verdict: Judgement) -> list[str]:
    """A line to stand beside the verdict, and lines to stand beneath."""
    if verdict.outcome == "refused":
        code = errorcode.get(verdict.errno, str(verdict.errno))
        lines = [f"{verdict.rule}: {verdict.ioctl}: {code}", verdict.detail]
        return [line for line in (*lines, *places(verdict.section)) if line]
    if verdict.outcome == "lost":
        lines = [str(item) for item in verdict.lost[:SHOWN_LOST]]
        more = len(verdict.lost) - SHOWN_LOST
        if more > 0:
            lines.append(f"and {more} more (--json lists them)")
        if verdict.result:
            lines.append(f"the ioctl returned {verdict.result}: no errno, yet L2 is not running")
        return lines
    return [""]


def _as_json(state: Capture, verdicts: list[Judgement]) -> dict[str, Any]:
    return {
        "name": state.name,
        "format": state.format.name,
        "verdicts": [
            {
                "kernel": v.kernel,
                "outcome": v.outcome,
                "errno": errorcode.get(v.errno, "") if v.errno else "",
                "result": v.result,
                "ioctl": v.ioctl,
                "rule": v.rule,
                "section": v.section,
                "detail": v.detail,
                "findings": [
                    {"rule": f.rule, "section": f.section, "detail": f.detail} for f in v.findings
                ],
                "lost": [item._asdict() for item in v.lost],
            }
            for v in verdicts
        ],
    }

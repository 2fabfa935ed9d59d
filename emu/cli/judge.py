"""`nestling judge`: what each kernel says to a nested state."""

from __future__ import annotations

from errno import errorcode
from typing import TYPE_CHECKING, Any

import click

from emu.cli.output import json_option, kernels, print_json, progress, styled, table
from emu.migration.capture import Capture
from emu.migration.inputs import read_states

if TYPE_CHECKING:
    from emu.migration.judge import Judgement

SHOWN_LOST = 4


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
    rows = []
    for names, verdict in _grouped(verdicts):
        rows.append((names, styled(verdict.outcome), *_why(verdict)))
        broken = [f for f in verdict.findings if f.rule != verdict.rule]
        rows += [("", "", f"also {f.rule}", f"{f.detail}\n{f.section}") for f in broken]
    table(("kernels", "verdict", "rule or content", "why"), rows)


def _grouped(verdicts: list[Judgement]) -> list[tuple[str, Judgement]]:
    """Neighbouring kernels that say the same, as ranges."""
    groups: list[list[Judgement]] = []
    for verdict in verdicts:
        if groups and _key(groups[-1][0]) == _key(verdict):
            groups[-1].append(verdict)
        else:
            groups.append([verdict])
    return [
        (g[0].kernel if len(g) == 1 else f"{g[0].kernel} to {g[-1].kernel}", g[0]) for g in groups
    ]


def _key(verdict: Judgement) -> tuple[Any, ...]:
    broken = tuple(finding.rule for finding in verdict.findings)
    return verdict.outcome, verdict.rule, verdict.detail, verdict.result, verdict.lost, broken


def _why(verdict: Judgement) -> tuple[str, str]:
    if verdict.outcome == "refused":
        code = errorcode.get(verdict.errno, str(verdict.errno))
        lines = (f"{verdict.ioctl}: {code}", verdict.detail, verdict.section)
        return verdict.rule, "\n".join(line for line in lines if line)
    if verdict.outcome == "lost":
        names = ", ".join(item.name for item in verdict.lost[:SHOWN_LOST])
        more = len(verdict.lost) - SHOWN_LOST
        status = f"the ioctl returned {verdict.result}, not an errno" if verdict.result else ""
        texts = [status, *(str(item) for item in verdict.lost[:SHOWN_LOST])]
        if more > 0:
            texts.append(f"and {more} more")
        return names, "\n".join(text for text in texts if text)
    return "", ""


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

"""`nestling releases`: the simulated kernels, and how each differs from the one before."""

from __future__ import annotations

import click

from emu.cli.output import json_option, kernel, print_json, table
from emu.releases import RELEASES
from emu.releases.schema import FACTS, Added, Changed, Difference, Release, Removed

# What the list tells of a release: members by name, sizes, and how many rules.
NOTABLE = {
    "nested_flags": "flag",
    "vmx_header": "VMX header",
    "svm_header": "SVM header",
    "vmcs12_fields": "vmcs12",
}
SIZES = {"vmx_maximum_size": "VMX state", "svm_maximum_size": "SVM state"}
COUNTED = {"vmx_rules": "VMX rules", "svm_rules": "SVM rules", "sregs_rules": "SREGS rules"}
SIGNS = ((Added, "+"), (Removed, "-"))


@click.command()
@click.argument("name", required=False)
@click.option("--resolved", is_flag=True, help="Every fact of the kernel, not only what changed.")
@json_option
def releases(name: str | None, resolved: bool, as_json: bool) -> None:
    """List the kernels; with NAME (a release or a .toml file), what that one changed, and where.

    Each difference cites the kernel file and symbol that it was read from.
    """
    if name is None:
        _list(as_json)
        return
    found = kernel(name)
    if as_json:
        print_json(_as_json(found, resolved))
        return
    base = f", based on {found.base.name}" if found.base else ""
    click.secho(f"Linux {found.name}{base}", bold=True)
    if found.differences:
        table(("", "fact", "difference", "seen"), [_row(d) for d in found.differences])
    else:
        click.echo("no difference that nested state can show")
    for item in found.growth:
        place = f" at byte {item.offset}, {item.width} bytes" if item.width else f" {item.value:#x}"
        click.echo(f"+ {item.place} {item.name}{place}, announced by {item.announced_by}")
    if resolved:
        click.echo()
        rows = [(fact.name, _value(found, fact.name), fact.meaning) for fact in FACTS]
        table(("fact", "value", "meaning"), rows, "resolved")


def _list(as_json: bool) -> None:
    if as_json:
        print_json([_as_json(found, resolved=False) for found in RELEASES.values()])
        return
    rows = [
        (
            found.name,
            found.base.name if found.base else "",
            str(len(found.differences)),
            _notable(found),
        )
        for found in RELEASES.values()
    ]
    table(("kernel", "based on", "differences", "what nested state gained or lost"), rows)
    click.echo("nestling releases NAME: every difference of one kernel, and where it was seen")


def _notable(found: Release) -> str:
    """What a reader of nested state sees of a release: flags, words, fields, sizes, rules."""
    parts = ["a stable tree"] if found.stable else []
    for fact, word in NOTABLE.items():
        for kind, sign in ((Added, "+"), (Removed, "-")):
            names = [d.member for d in found.differences if type(d) is kind and d.fact == fact]
            if names:
                shown = [name.removeprefix("KVM_STATE_NESTED_") for name in names]
                parts.append(f"{sign}{word} {', '.join(shown)}")
    parts += [
        f"{SIZES[d.fact]} of {d.value} bytes"
        for d in found.differences
        if isinstance(d, Changed) and d.fact in SIZES and d.value
    ]
    for fact, word in COUNTED.items():
        kinds = [type(d) for d in found.differences if d.fact == fact]
        signs = [f"{sign}{kinds.count(kind)}" for kind, sign in SIGNS if kind in kinds]
        if signs:
            parts.append(f"{' '.join(signs)} {word}")
    return "; ".join(parts)


def _row(difference: Difference) -> tuple[str, str, str, str]:
    if isinstance(difference, Changed):
        return "=", difference.fact, f"{difference.value:#x} ({difference.value})", difference.seen
    sign = "-" if isinstance(difference, Removed) else "+"
    return sign, difference.fact, difference.member, difference.seen


def _value(found: Release, fact: str) -> str:
    value = found.facts[fact]
    return str(value) if isinstance(value, int) else ", ".join(sorted(value)) or "none"


def _as_json(found: Release, resolved: bool) -> dict[str, object]:
    data: dict[str, object] = {
        "name": found.name,
        "base": found.base.name if found.base else None,
        "stable": found.stable,
        "differences": [
            {"kind": type(d).__name__.lower(), **d._asdict()} for d in found.differences
        ],
        "growth": [item._asdict() for item in found.growth],
    }
    if resolved:
        data["facts"] = {
            name: value if isinstance(value, int) else sorted(value)
            for name, value in found.facts.items()
        }
    return data

"""Every rule that has a name, from all the tables: for `nestling explain` and for verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from emu.errors import InputError
from emu.kvm.ioctl_rules import IOCTL_RULES
from emu.kvm.nested_svm.rules import SET_RULES
from emu.kvm.nested_vmx.rules import SET_PROGRAM
from emu.kvm.sregs_rules import SREGS_RULES
from emu.migration.policy import POLICY_RULES
from emu.releases import RELEASES
from vmcs.checks import Kind, Row, describe
from vmcs.svm.vmrun_checks import CONSISTENCY_CHECKS
from vmcs.vmx.entry_checks import CONTROL_CHECKS, GUEST_STATE_CHECKS, HOST_STATE_CHECKS

# Tables of rows, with the fact of a release that says which rows it has ("": the processor's own).
TABLES = (
    ("KVM_SET_NESTED_STATE on Intel", "vmx_rules", SET_PROGRAM),
    ("KVM_SET_NESTED_STATE on AMD", "svm_rules", SET_RULES),
    ("KVM_SET_SREGS", "sregs_rules", SREGS_RULES),
    ("VM entry: controls", "", CONTROL_CHECKS),
    ("VM entry: host state", "", HOST_STATE_CHECKS),
    ("VM entry: guest state", "", GUEST_STATE_CHECKS),
    ("VMRUN", "", CONSISTENCY_CHECKS),
)


@dataclass(frozen=True)
class Rule:
    """A rule by name: which table it is in, what it asks, when it applies, where it stands.

    `kernels` are the releases that have it, oldest first; empty for a rule of the processor, and
    for one that every release has.
    """

    name: str
    table: str
    kind: str
    asks: str
    when: tuple[str, ...]
    section: str
    result: str = ""
    kernels: tuple[str, ...] = ()


def rules() -> Iterator[Rule]:
    """Every rule, table by table; a name can stand in more than one table."""
    for title, fact, rows in TABLES:
        for row in rows:
            if row.kind is not Kind.LET:
                yield _of_row(title, fact, row)
    for rule in IOCTL_RULES:
        yield Rule(rule.name, rule.ioctl, "check", rule.asks, (), rule.seen, rule.errno)
    for check in POLICY_RULES:
        yield Rule(check.name, "receiving side", "check", check.asks, (), check.seen, check.errno)


def _of_row(title: str, fact: str, row: Row) -> Rule:
    asks = {
        Kind.EFFECT: "changes state of the vCPU at this point",
        Kind.RETURNS: "ends the ioctl here",
    }.get(row.kind, describe(row.predicate))
    kernels = tuple(r.name for r in RELEASES.values() if fact and r.has(fact, row.name))
    when = tuple(describe(p) for p in row.when)
    return Rule(
        row.name, title, row.kind.name.lower(), asks, when, row.section, _result(row), kernels
    )


def _result(row: Row) -> str:
    from errno import errorcode  # noqa: PLC0415 - a table of the platform

    if row.kind is Kind.EFFECT:
        return ""
    if isinstance(row.result, str):
        return f"the word {row.result}"
    return errorcode.get(row.result, str(row.result)) if row.kind is Kind.CHECK else str(row.result)


@cache
def _by_name() -> dict[str, tuple[Rule, ...]]:
    found: dict[str, tuple[Rule, ...]] = {}
    for rule in rules():
        found[rule.name] = (*found.get(rule.name, ()), rule)
    return found


def rule_named(name: str) -> Rule | None:
    """The first rule of that name; None for none."""
    return next(iter(_by_name().get(name, ())), None)


def rules_named(name: str) -> tuple[Rule, ...]:
    """Every rule of that name; raises InputError with the nearest names."""
    found = _by_name()
    if name not in found:
        near = get_close_matches(name, found, 5, 0.5)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise InputError(f"no rule is named {name!r}{hint}")
    return found[name]


def releases_with(names: tuple[str, ...]) -> str:
    """Releases as ranges: ``4.19-5.7, 5.10.262``."""
    order = [r.name for r in RELEASES.values() if not r.stable]
    spans: list[list[str]] = []
    for place, name in enumerate(order):
        if name not in names:
            continue
        if spans and order[place - 1] == spans[-1][-1]:
            spans[-1].append(name)
        else:
            spans.append([name])
    texts = [span[0] if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans]
    stable = [r.name for r in RELEASES.values() if r.stable and r.name in names]
    return ", ".join([*texts, *stable])

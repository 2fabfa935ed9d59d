"""Every rule that has a name, from all the tables: for `nestling explain` and for verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from emu.errors import InputError
from emu.kvm.ioctl_rules import IOCTL_RULES
from emu.kvm.nested_svm.rules import SET_RULES
from emu.kvm.nested_vmx.rules import SET_PROGRAM
from emu.kvm.sregs_rules import SREGS_RULES
from emu.migration.policy import POLICY_RULES
from emu.releases import RELEASES
from emu.releases.schema import FACTS, SET, Release
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
# What the processor does where a check of its own fails.
FAILURES = {
    "VM entry: controls": "VM-instruction error 7: VM entry with invalid control field(s)",
    "VM entry: host state": "VM-instruction error 8: VM entry with invalid host-state field(s)",
    "VM entry: guest state": "VM exit 33: VM-entry failure due to invalid guest state",
    "VMRUN": "#VMEXIT with VMEXIT_INVALID",
}


@dataclass(frozen=True)
class Rule:
    """A rule by name: which table it is in, what it asks, when it applies, where it stands.

    `kernels` are the releases that have it, oldest first; empty for a rule of the processor, and
    for one that every release has.  `words` says what the words hold that are in no blob, `example`
    how a state breaks the rule (only `explained` fills these two).
    """

    name: str
    table: str
    kind: str
    asks: str
    when: tuple[str, ...]
    section: str
    result: str = ""
    kernels: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    example: str = ""


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
    kernels = _with(fact, row.name) if fact else ()
    when = tuple(describe(p) for p in row.when)
    return Rule(
        row.name,
        title,
        row.kind.name.lower(),
        asks,
        when,
        row.section,
        _result(title, row),
        kernels,
    )


def _result(table: str, row: Row) -> str:
    from errno import errorcode  # noqa: PLC0415 - a table of the platform

    if row.kind is Kind.EFFECT:
        return ""
    if table in FAILURES:
        return FAILURES[table]
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
    if name not in found and (facts := tuple(_facts(name))):
        return facts
    if name not in found:
        from difflib import get_close_matches  # noqa: PLC0415 - only a wrong name needs it

        near = get_close_matches(name, found, 5, 0.5)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise InputError(f"no rule is named {name!r}{hint}")
    return found[name]


def _facts(name: str) -> Iterator[Rule]:
    """A kernel's fact of that name, and the facts that have a member of that name, as rules."""
    for fact in FACTS:
        if fact.name == name:
            values = {r.name: str(r.facts[name]) for r in _settling(name)}
            words = values if fact.kind is not SET else {}
            yield Rule(name, "a fact of each kernel", "fact", fact.meaning, (), "", words=words)
        elif fact.kind is SET and (kernels := _with(fact.name, name)):
            settled = RELEASES[kernels[0]].origin(fact.name, name)
            seen = settled[1].seen if settled else ""
            yield Rule(name, fact.name, "fact", fact.meaning, (), seen, kernels=kernels)


def _settling(fact: str) -> list[Release]:
    return [r for r in RELEASES.values() if any(d.fact == fact for d in r.differences)]


def _with(fact: str, member: str) -> tuple[str, ...]:
    return tuple(r.name for r in RELEASES.values() if r.has(fact, member))


def explained(rule: Rule) -> Rule:
    """`rule` with what its words hold, and with an example of a value that breaks it."""
    from emu.kvm import glossary  # noqa: PLC0415 - only an explanation needs names
    from emu.migration.example import example  # noqa: PLC0415 - it sets a vCPU up

    for title, _, rows in TABLES:
        if title != rule.table:
            continue
        row = next(row for row in rows if row.name == rule.name)
        vendor = "amd" if rows in (SET_RULES, CONSISTENCY_CHECKS) else "intel"
        known = glossary.of_svm() if vendor == "amd" else glossary.of_vmx()
        read = dict.fromkeys(x for p in (row.predicate, *row.when) for x in p if isinstance(x, str))
        words = {word: known.meaning(word) for word in read if known.meaning(word)}
        shown = example(row, vendor, rule.kernels) if row.kind is Kind.CHECK else ""
        return replace(
            rule,
            asks=describe(row.predicate, None, known.names) if shown else rule.asks,
            when=tuple(describe(p, None, known.names) for p in row.when),
            words=words,
            example=shown,
        )
    return rule


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

"""What one kernel says to a nested state: accepted, refused by a rule, or accepted but lossy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emu.errors import KvmError
from emu.kvm import Kvm
from emu.migration.capture import Capture
from emu.migration.contents import Lost, contents, contents_of_blob, lost
from emu.migration.guest import load_registers, load_state, new_vcpu
from emu.migration.migrate import ACCEPTED, LOSSY, REFUSED
from emu.migration.rulebook import rule_named
from emu.releases.schema import Release
from vmcs.checks import describe


@dataclass(frozen=True)
class Finding:
    """A rule that the state breaks: its name, where it stands, and the values that break it."""

    rule: str
    section: str
    detail: str


@dataclass(frozen=True)
class Judgement:
    """The verdict of one kernel.

    `ioctl` and `rule` name what refused; `result` is the positive value that KVM_SET_NESTED_STATE
    returned where it is not 0: a caller that only looks for -1 takes it for success.  `findings`
    are all broken rules, in the kernel's order; the first is the one that the kernel meets.
    """

    kernel: str
    outcome: str
    errno: int = 0
    result: int = 0
    ioctl: str = ""
    rule: str = ""
    section: str = ""
    detail: str = ""
    findings: tuple[Finding, ...] = ()
    lost: tuple[Lost, ...] = ()


def judge(capture: Capture, kvm: Kvm) -> Judgement:
    """What `kvm` says to `capture`."""
    name = kvm.release.name
    vcpu = new_vcpu(kvm)
    try:
        load_registers(vcpu, capture)
    except KvmError as error:
        return _refused(name, error, ())
    state = bytearray(capture.blob).ljust(max(kvm.check_extension(157), len(capture.blob)), b"\0")
    findings: tuple[Finding, ...] = ()
    if kvm.operations.has_nested_state(kvm.release, kvm.host):
        findings = tuple(
            Finding(row.name, row.section, describe(row.predicate, values))
            for row, values in vcpu.operations.nested_state_findings(memoryview(state))
        )
    try:
        result = load_state(vcpu, capture.blob)
    except KvmError as error:
        return _refused(name, error, findings)
    out = vcpu.get_nested_state(max(kvm.check_extension(157), 128))
    missing = lost(contents_of_blob(capture.blob), contents(vcpu, out))
    outcome = LOSSY if missing else ACCEPTED
    return Judgement(name, outcome, result=result, findings=findings, lost=missing)


def _refused(name: str, error: KvmError, findings: Sequence[Finding]) -> Judgement:
    found = rule_named(error.rule)
    section = found.section if found else ""
    # The walk stops at the first finding; an errno without one was given before or behind it.
    return Judgement(
        name,
        REFUSED,
        errno=error.errno,
        ioctl=error.ioctl,
        rule=error.rule,
        section=section,
        detail=error.detail,
        findings=tuple(findings),
    )


def judge_all(
    capture: Capture,
    releases: Sequence[Release],
    kernel_of: Callable[[Release, Capture], Kvm],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Judgement]:
    """The verdict of every release."""
    verdicts = []
    for release in releases:
        verdicts.append(judge(capture, kernel_of(release, capture)))
        progress(len(verdicts), len(releases))
    return verdicts

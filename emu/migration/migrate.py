"""One move of nested state from a source kernel to a destination kernel, and its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from emu.errors import KvmError
from emu.kvm import Kvm, Vcpu
from emu.migration.capture import Capture
from emu.migration.contents import Lost, contents, handed_out, lost
from emu.migration.guest import capture_of, load_registers, load_state, new_vcpu
from emu.migration.policy import Policy
from vmcs.nested_state import SIZE_WITH_VMCS12

ACCEPTED, REFUSED, LOSSY, IMPOSSIBLE = "accepted", "refused", "lost", "impossible"
OUTCOMES: Final = (ACCEPTED, LOSSY, REFUSED, IMPOSSIBLE)

# Where a migration can end, in order.
BOOT, SAVE, RECEIVE, REGISTERS, RESTORE, DONE = (
    "source boot",
    "save",
    "receive",
    "restore registers",
    "restore nested state",
    "done",
)

Watch = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Verdict:
    """What became of one move.

    `left` is what the source's vCPU held, `held` what the destination's holds, `arrived` the state
    as the destination hands it out again.
    ``impossible``: the source kernel itself does not take the state that the move starts from.
    ``refused``: `stage` failed with `errno`, by the rule `rule`.  ``lost``: accepted, but the
    destination holds or hands out something else; `lost` says what.  `withheld` names content that
    the policy kept the guest from using at all.
    """

    source: str
    destination: str
    policy: str
    outcome: str
    stage: str = DONE
    rule: str = ""
    errno: int = 0
    detail: str = ""
    result: int = 0
    lost: tuple[Lost, ...] = ()
    withheld: tuple[str, ...] = ()
    arrived: Capture | None = field(default=None, compare=False, repr=False)
    left: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    held: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def grown(self) -> dict[str, int]:
        """What the guest holds of the destination's growth."""
        prefix = "grown."
        return {
            name.removeprefix(prefix): value
            for name, value in self.held.items()
            if name.startswith(prefix)
        }

    def held_lost(self, held: Mapping[str, int]) -> tuple[Lost, ...]:
        """What the guest held before this move and does not hold in `held`."""
        return lost(self.left, held)


def no_watch(_step: str, _what: Mapping[str, Any]) -> None:
    """Watch nothing."""


@dataclass(frozen=True)
class Departure:
    """A guest that is about to leave its kernel: the vCPU, and what it holds."""

    vcpu: Vcpu
    capture: Capture
    blob: bytes
    held: Mapping[str, int]


def depart(
    kvm: Kvm, capture: Capture, enabled: frozenset[str], grown: Mapping[str, int] | None
) -> Departure:
    """Start `capture` under `kvm`; grown content holds `grown`, or its samples for None.

    Raises KvmError where the kernel does not take it.
    """
    vcpu = new_vcpu(kvm, enabled)
    load_registers(vcpu, capture)
    result = load_state(vcpu, capture.blob)
    if result:
        raise KvmError("KVM_SET_NESTED_STATE", 22, "entry_to_l2", f"the ioctl returned {result}")
    for name, value in _in_use(vcpu, capture, grown).items():
        vcpu.grown.hold(name, value)
    maximum = kvm.check_extension(157)
    blob = vcpu.get_nested_state(maximum) if maximum else b""
    return Departure(vcpu, capture, blob, contents(vcpu, blob))


def _in_use(vcpu: Vcpu, capture: Capture, grown: Mapping[str, int] | None) -> dict[str, int]:
    """What the guest would hold of the kernel's growth: no field of a vmcs12 that is not there."""
    return {
        item.name: item.sample if grown is None else grown.get(item.name, 0)
        for item in vcpu.grown.contents
        if item.place != "vmcs12" or len(capture.blob) >= SIZE_WITH_VMCS12
    }


def migrate(
    capture: Capture,
    source: Kvm,
    destination: Kvm,
    policy: Policy,
    *,
    grown: Mapping[str, int] | None = None,
    watch: Watch = no_watch,
) -> Verdict:
    """Move `capture` from `source` to `destination` under `policy`.

    `grown` is what the guest holds of the source's growth (None: the samples; {}: nothing).
    `watch` is called with each step and what it produced.
    """
    enabled = policy.enable(source.release, destination.release)
    names = (source.release.name, destination.release.name, policy.name)

    def ended(outcome: str, stage: str, error: KvmError) -> Verdict:
        # Not the detail: its wording may change, and what is watched is summed up.
        watch(stage, {"errno": error.errno, "rule": error.rule})
        return Verdict(*names, outcome, stage, error.rule, error.errno, error.detail)

    try:
        left = depart(source, capture, enabled, grown)
    except KvmError as error:
        return ended(IMPOSSIBLE, BOOT, error)
    watch(BOOT, {"blob": left.blob, "held": left.held})
    try:
        record = policy.save(left.vcpu, destination)
    except KvmError as error:
        return ended(REFUSED, SAVE, error)
    travelling = capture_of(left.vcpu, capture, record.blob)
    watch(SAVE, {"blob": record.blob, "version": record.version})
    try:
        policy.admit(record, destination)
    except KvmError as error:
        return ended(REFUSED, RECEIVE, error)
    arrived = new_vcpu(destination, enabled)
    try:
        load_registers(arrived, travelling)
    except KvmError as error:
        return ended(REFUSED, REGISTERS, error)
    watch(REGISTERS, {"registers": arrived.get_control_registers()})
    result = 0
    if record.blob:
        try:
            result = load_state(arrived, record.blob)
        except KvmError as error:
            return ended(REFUSED, RESTORE, error)
    maximum = destination.check_extension(157)
    out = arrived.get_nested_state(maximum) if maximum else b""
    held = contents(arrived, out)
    watch(RESTORE, {"result": result, "blob": out, "held": held})
    missing = lost(left.held, held)
    if not missing and out:
        missing = lost(handed_out(left.blob), handed_out(out))
    growth = left.vcpu.grown
    wanted = _in_use(left.vcpu, capture, grown)
    withheld = tuple(n for n, value in wanted.items() if value and growth.is_withheld(n))
    return Verdict(
        *names,
        LOSSY if missing else ACCEPTED,
        result=result,
        lost=missing,
        withheld=withheld,
        arrived=capture_of(arrived, capture, out),
        left=left.held,
        held=held,
    )

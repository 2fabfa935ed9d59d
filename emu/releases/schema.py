"""What a release is made of: facts with names, and differences that change them.

A release states how it differs from the one it is based on; `after` resolves the differences to one
frozen `Release`.  A fact is declared once, in `FACTS`, with its type and meaning; a difference that
names no declared fact, adds what is already there, or removes what is not, cannot be loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

FactValue = frozenset[str] | int


class Fact(NamedTuple):
    """One thing about a kernel that can differ: a set of names, or a number."""

    name: str
    kind: type
    meaning: str


SET, NUMBER = frozenset, int

# fmt: off
FACTS = (
    Fact("capabilities", SET, "KVM_CAP_* names of KVM_CHECK_EXTENSION that migration needs"),
    Fact("nested_flags", SET, "KVM_STATE_NESTED_* flags that the ioctl layer accepts"),
    Fact("vmx_header", SET, "words of the VMX header that GET fills and SET reads"),
    Fact("svm_header", SET, "words of the SVM header that GET fills and SET reads"),
    Fact("vmx_rules", SET, "rows of the VMX SET program that this kernel has"),
    Fact("svm_rules", SET, "rows of the SVM SET program that this kernel has"),
    Fact("sregs_rules", SET, "checks of KVM_SET_SREGS"),
    Fact("vmcs12_fields", SET, "members of vmcs12 beyond those of 4.18"),
    Fact("svm_control", SET, "groups of VMCB control members that GET emits and SET reads"),
    Fact("svm_save", SET, "groups of VMCB save members that SET loads into vmcb01"),
    Fact("svm_legalized", SET, "changes that SET makes to members of the VMCB that it takes"),
    Fact("vmx_controls", SET, "VMX controls and capability bits for L1 that not every KVM offers"),
    Fact("cpuid", SET, "CPUID bits that KVM passes on and not every KVM does"),
    Fact("cpuid_vmx", SET, "CPUID bits that kvm_intel adds"),
    Fact("cpuid_svm", SET, "CPUID bits that kvm_amd adds"),
    Fact("cpuid_svm_hidden", SET, "CPUID bits that kvm_amd takes out"),
    Fact("cpuid_emulated", SET, "CPUID bits that KVM shows whatever the processor has"),
    Fact("cpuid_leaves", SET, "how KVM_GET_SUPPORTED_CPUID treats leaves that are no feature bits"),
    Fact("feature_msrs", SET, "feature MSRs that not every KVM lists, and their order"),
    Fact("arch_capabilities", SET, "bits of IA32_ARCH_CAPABILITIES that KVM sees to"),
    Fact("behaviours", SET, "ways in which this kernel acts that no other fact says"),
    Fact("vmx_maximum_size", NUMBER, "KVM_CHECK_EXTENSION(KVM_CAP_NESTED_STATE) on Intel, bytes"),
    Fact("svm_maximum_size", NUMBER, "KVM_CHECK_EXTENSION(KVM_CAP_NESTED_STATE) on AMD, bytes"),
    Fact("vmcs12_bytes_out", NUMBER, "bytes of vmcs12 that GET writes"),
    Fact("vmcs12_minimum_size", NUMBER, "size below which SET sees no vmcs12"),
    Fact("shadow_minimum_size", NUMBER, "size below which SET sees no shadow vmcs12"),
    Fact("entry_failure_status", NUMBER, "what SET returns where L2 is not entered; < 0: an errno"),
    Fact("svm_control_bytes", NUMBER, "bytes of the VMCB control area that GET copies"),
    Fact("cpuid_basic_limit", NUMBER, "highest basic leaf of KVM_GET_SUPPORTED_CPUID"),
    Fact("cpuid_extended_limit", NUMBER, "highest extended leaf of KVM_GET_SUPPORTED_CPUID"),
    Fact("arch_capabilities_mask", NUMBER, "bits of IA32_ARCH_CAPABILITIES that KVM passes on"),
    Fact("perf_capabilities_mask", NUMBER, "bits of IA32_PERF_CAPABILITIES that KVM passes on"),
    Fact("svm_save_bytes", NUMBER, "bytes of the VMCB save area that GET copies"),
)
# fmt: on

FACT = {fact.name: fact for fact in FACTS}


class Added(NamedTuple):
    """`member` joins the set of names `fact`."""

    fact: str
    member: str
    seen: str


class Removed(NamedTuple):
    """`member` leaves the set of names `fact`."""

    fact: str
    member: str
    seen: str


class Changed(NamedTuple):
    """The number `fact` becomes `value`."""

    fact: str
    value: int
    seen: str


Difference = Added | Removed | Changed


@dataclass(frozen=True)
class Release:
    """A kernel: its name, what it is based on, how it differs, and the resolved facts.

    `seen` of each difference cites ``file: symbol`` of this release's tree; a citation that ends in
    ``(between X and Y)`` marks a change whose exact release was not read.  `stable` marks a stable
    tree of a distribution, which carries backports.
    """

    name: str
    base: "Release | None"
    differences: tuple[Difference, ...]
    facts: Mapping[str, FactValue]
    stable: bool = False
    growth: tuple["Growth", ...] = ()

    def names(self, fact: str) -> frozenset[str]:
        """The set of names `fact`."""
        value = self.facts[fact]
        if not isinstance(value, frozenset):
            raise TypeError(f"{fact} is a number")
        return value

    def number(self, fact: str) -> int:
        """The number `fact`."""
        value = self.facts[fact]
        if isinstance(value, frozenset):
            raise TypeError(f"{fact} is a set of names")
        return value

    def has(self, fact: str, member: str) -> bool:
        """Whether `member` is in the set of names `fact`."""
        return member in self.names(fact)

    def does(self, behaviour: str) -> bool:
        """Whether this kernel acts in the way named `behaviour`."""
        return behaviour in self.names("behaviours")

    @property
    def history(self) -> tuple["Release", ...]:
        """This release and all it is based on, oldest first."""
        return (*self.base.history, self) if self.base else (self,)

    def origin(self, fact: str, member: str | None = None) -> tuple[str, Difference] | None:
        """The latest difference that settled `fact` (or `member` of it), with its release."""
        for release in reversed(self.history):
            for difference in reversed(release.differences):
                settled = difference.value if isinstance(difference, Changed) else difference.member
                if difference.fact == fact and (member is None or member == settled):
                    return release.name, difference
        return None


PLACES = ("flag", "header", "vmcs12", "page", "capability", "quirk")


class Growth(NamedTuple):
    """Something that a kernel which does not exist yet adds to nested state.

    ==========  ==================================================================================
    place       what grows
    ==========  ==================================================================================
    flag        a bit of `kvm_nested_state.flags`: `value`
    header      a word of the header: `offset` from the start of the blob, `width` bytes
    vmcs12      a field in vmcs12's padding: `offset` from the start of vmcs12, `width` bytes
    page        data behind all that other kernels know: `offset` from the start of the blob
    capability  a KVM_CAP_* that user space enables on the VM: its number is `value`
    quirk       a KVM_X86_QUIRK_* that user space disables on the VM: `value`
    ==========  ==================================================================================

    `announced_by` says how a reader of the blob learns that the content is there: ``always`` (it
    is there whenever the kernel knows it), ``size`` (where `kvm_nested_state.size` reaches it), or
    the name of a flag, capability or quirk of the same kernel.  `sample` is what a running guest
    holds there where nothing else is given.
    """

    place: str
    name: str
    format: str = "vmx"
    offset: int = 0
    width: int = 0
    value: int = 0
    sample: int = 0
    announced_by: str = "always"

    @property
    def end(self) -> int:
        """First byte behind the content, counted as `offset` is."""
        return self.offset + self.width

    @property
    def is_content(self) -> bool:
        """Whether a guest can hold something here; capabilities and quirks only say so."""
        return self.place in ("flag", "header", "vmcs12", "page")


def _resolve(
    facts: Mapping[str, FactValue], differences: tuple[Difference, ...], name: str
) -> Mapping[str, FactValue]:
    resolved = dict(facts)
    for difference in differences:
        fact = FACT.get(difference.fact)
        if fact is None:
            raise ValueError(f"{name}: no fact is named {difference.fact!r}")
        if not difference.seen:
            raise ValueError(f"{name}: {difference} does not say where it was seen")
        value = resolved[difference.fact]
        if isinstance(difference, Changed):
            if isinstance(value, frozenset) or value == difference.value:
                raise ValueError(f"{name}: {difference} changes nothing")
            resolved[difference.fact] = difference.value
            continue
        if not isinstance(value, frozenset):
            raise ValueError(f"{name}: {difference.fact} is a number")
        if (difference.member in value) == isinstance(difference, Added):
            raise ValueError(f"{name}: {difference} changes nothing")
        change = frozenset({difference.member})
        resolved[difference.fact] = (
            value | change if isinstance(difference, Added) else value - change
        )
    return MappingProxyType(resolved)


def first(name: str, *differences: Difference) -> Release:
    """The oldest release: differences from a kernel without nested state."""
    empty: dict[str, FactValue] = {
        fact.name: frozenset() if fact.kind is SET else 0 for fact in FACTS
    }
    return Release(name, None, differences, _resolve(empty, differences, name))


def after(
    base: Release,
    name: str,
    *differences: Difference,
    stable: bool = False,
    growth: tuple[Growth, ...] = (),
) -> Release:
    """The release `name`: `base` with `differences`.

    Raises ValueError for a difference that names no fact, changes nothing, or cites nothing.
    """
    facts = _resolve(base.facts, differences, name)
    return Release(name, base, differences, facts, stable, base.growth + growth)

"""What is wrong where a check does not hold: the values that break it, in words.

`vmcs.checks.describe` says what a predicate asks; `explain_failure` says of words that do not meet
it which bits, numbers or addresses are the wrong ones, by name where their words have names.
"""

from collections.abc import Callable, Mapping
from typing import Final

from vmcs.checks import ALL_BITS, Operand, Predicate, Shape

BitNames = Callable[[str, int], tuple[str, ...]]
Meanings = Callable[[str], str]

MSR_ENTRY: Final = 16
PAT_TYPES: Final = (0, 1, 4, 5, 6, 7)
SHOWN_NAMES: Final = 6


def _nameless(_word: str, _bits: int) -> tuple[str, ...]:
    return ()


def _meaningless(_word: str) -> str:
    return ""


class _Wording:
    """The operands of one predicate as text."""

    def __init__(
        self, predicate: Predicate, values: Mapping[str, int], names: BitNames, meanings: Meanings
    ) -> None:
        self.operands = predicate[1:]
        self.values, self.names, self.meanings = values, names, meanings
        self.a, self.b, self.c, self.d = (self.value(x) for x in self.operands)

    def value(self, operand: Operand) -> int:
        """The number that an operand stands for."""
        return int(self.values[operand]) if isinstance(operand, str) else int(operand)

    def bits(self, bits: int, place: int = 0) -> str:
        """Bits of the word at `place` (0 to 3): by name, and as a mask."""
        word = self.operands[place]
        named = self.names(word, bits) if isinstance(word, str) else ()
        if not named or len(named) > SHOWN_NAMES:
            return f"{'bit' if bits.bit_count() == 1 else 'bits'} {bits:#x}"
        return f"{', '.join(named)} ({bits:#x})"

    def why(self, place: int) -> str:
        """What the word at `place` (0 to 3) holds; nothing for a constant."""
        word = self.operands[place]
        meaning = self.meanings(word) if isinstance(word, str) else ""
        return f" ({word}: {meaning})" if meaning else f" ({word})" if isinstance(word, str) else ""

    def __str__(self) -> str:
        return f"{self.operands[0]} is {self.a:#x}"


def explain_failure(
    predicate: Predicate,
    values: Mapping[str, int],
    names: BitNames = _nameless,
    meanings: Meanings = _meaningless,
) -> str:
    """What in `values` breaks `predicate`: one line, the wrong bits by name.

    `names` gives the names of the bits of a word, `meanings` what a word holds.  For values that
    do not break it the text says what they would have to be all the same.
    """
    return _WORDINGS[predicate.shape](_Wording(predicate, values, names, meanings))


def _bits_clear(w: _Wording) -> str:
    return f"{w}: {w.bits(w.a & w.b)} must be 0{w.why(1)}"


def _bits_set(w: _Wording) -> str:
    return f"{w}: {w.bits(w.b & ~w.a)} must be 1{w.why(1)}"


def _any_set(w: _Wording) -> str:
    if w.b == ALL_BITS:
        return f"{w}, must not be 0"
    return f"{w}: one of {w.bits(w.b)} must be 1{w.why(1)}"


def _equal(w: _Wording) -> str:
    if w.c == ALL_BITS:
        return f"{w}, must be {w.b:#x}{w.why(1)}"
    return f"{w}: bits {w.c:#x} are {w.a & w.c:#x}, must be {w.b:#x}{w.why(1)}"


def _different(w: _Wording) -> str:
    if w.c == ALL_BITS:
        return f"{w}, must be another value{w.why(1)}"
    if w.b == w.c:
        return f"{w}: {w.bits(w.c)} must not all be 1{w.why(1)}"
    return f"{w}: bits {w.c:#x} must not be {w.b:#x}{w.why(1)}"


def _at_most(w: _Wording) -> str:
    return f"{w.operands[0]} is {w.a}, must be at most {w.b}{w.why(1)}"


def _at_least(w: _Wording) -> str:
    return f"{w.operands[0]} is {w.a}, must be at least {w.b}{w.why(1)}"


def _allowed(w: _Wording) -> str:
    missing, extra = w.b & ~w.a, w.a & ~(w.b | w.c)
    parts = []
    if missing:
        parts.append(f"{w.bits(missing)} must be 1{w.why(1)}")
    if extra:
        parts.append(f"{w.bits(extra)} must be 0{w.why(2)}")
    return f"{w}: {'; '.join(parts)}"


def _same(w: _Wording) -> str:
    state = {False: "clear", True: "set"}
    left = f"{w.bits(w.c)} of {w.operands[0]} is {state[bool(w.a & w.c)]}"
    return f"{left}, but {w.bits(w.d, 1)} of {w.operands[1]} is {state[bool(w.b & w.d)]}"


def _canonical(w: _Wording) -> str:
    return f"{w}, not canonical for {w.b} linear-address bits"


def _memory_types(w: _Wording) -> str:
    wrong = [n for n in range(8) if w.a >> 8 * n & 0xFF not in PAT_TYPES]
    return f"{w}: byte {', '.join(map(str, wrong))} is no memory type"


def _msr_area(w: _Wording) -> str:
    last = w.a + w.b * MSR_ENTRY - 1
    start = f"{w.b} MSR entries at {w.operands[0]} ({w.a:#x})"
    if w.a % MSR_ENTRY:
        return f"{start} must be aligned to {MSR_ENTRY} bytes"
    return f"{start} reach {last:#x}: bits {(w.a | last) & w.c:#x} must be 0{w.why(2)}"


def _range(w: _Wording) -> str:
    last = w.a + w.b - 1
    wrong = (w.a | last) & w.c
    return f"{w}, {w.b} bytes up to {last:#x}: bits {wrong:#x} must be 0{w.why(2)}"


def _shifted(w: _Wording) -> str:
    wanted = w.b << w.c & ALL_BITS
    return f"{w}, must be {wanted:#x}: {w.operands[1]} ({w.b:#x}) shifted left by {w.c}"


def _set(w: _Wording) -> tuple[int, str]:
    members = [str(n) for n in range(64) if w.b >> n & 1]
    shown = ", ".join(members) if len(members) <= 2 * SHOWN_NAMES else f"the set {w.b:#x}"
    return (w.a & w.c) >> w.d, shown or "none"


def _field(w: _Wording) -> str:
    return "" if w.c in (ALL_BITS, 0xFFFF_FFFF) else f": its field {w.c:#x}"


def _member(w: _Wording) -> str:
    number, shown = _set(w)
    where = _field(w)
    return f"{w}{where}{' is ' + str(number) if where else ''}, must be one of {shown}{w.why(1)}"


def _no_member(w: _Wording) -> str:
    number, shown = _set(w)
    where = _field(w)
    return f"{w}{where}{' is ' + str(number) if where else ''}, must be none of {shown}{w.why(1)}"


_WORDINGS: Final[Mapping[Shape, Callable[[_Wording], str]]] = {
    Shape.BITS_CLEAR: _bits_clear,
    Shape.BITS_SET: _bits_set,
    Shape.ANY_SET: _any_set,
    Shape.EQUAL: _equal,
    Shape.DIFFERENT: _different,
    Shape.AT_MOST: _at_most,
    Shape.AT_LEAST: _at_least,
    Shape.ALLOWED: _allowed,
    Shape.SAME: _same,
    Shape.CANONICAL: _canonical,
    Shape.MEMORY_TYPES: _memory_types,
    Shape.MSR_AREA: _msr_area,
    Shape.RANGE: _range,
    Shape.SHIFTED: _shifted,
    Shape.MEMBER: _member,
    Shape.NO_MEMBER: _no_member,
}

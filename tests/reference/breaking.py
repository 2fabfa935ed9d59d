"""Find words that break one check row and no other: a small repairing search, deterministic.

The search makes the row's conditions true and its predicate false, then mends every other row that
fails by changing words that are not yet pinned, until none fails.
"""

from tests.reference.naive_checks import MASK64, failures, true_of, value_of


def lowest(mask):
    return mask & -mask


class Search:
    def __init__(self, rows, words, fixed=()):
        self.rows = rows
        self.words = dict(words)
        self.by_name = {row.name: row for row in rows}
        self.lets = {row.target: row for row in rows if row.kind.name == "LET"}
        self.fixed = set(fixed)
        self.pinned = {}

    def assign(self, word, bits, mask):
        """Give the bits of `word` under `mask` the value `bits` and pin them; False: pinned."""
        if word in self.lets:
            row = self.lets[word]
            source, right, let_mask = row.predicate[1:4]
            let_mask = value_of(let_mask, self.words)
            if mask & let_mask and bits & ~let_mask:
                return False
            if bits and not all(self.make(p, True) for p in row.when):
                return False
            if not bits and row.when and not all(true_of(p, self.words) for p in row.when):
                return True
            mask &= let_mask
            return self.assign(source, (bits & mask) << right, (mask << right) & MASK64)
        if word in self.fixed:
            return self.words[word] & mask == bits & mask
        held = self.pinned.get(word, 0)
        if (self.words[word] ^ bits) & mask & held:
            return False
        self.words[word] = self.words[word] & ~mask & MASK64 | bits & mask
        self.pinned[word] = held | mask
        self.derive()
        return True

    def derive(self):
        for row in self.rows:
            if row.kind.name == "LET":
                wanted = all(true_of(p, self.words) for p in row.when)
                a, right, mask = (value_of(x, self.words) for x in row.predicate[1:4])
                self.words[row.target] = (a >> right) & mask if wanted else 0

    def make(self, predicate, wanted):
        """Make a predicate true or false by one assignment, if its words are free."""
        if true_of(predicate, self.words) == wanted:
            return True
        saved = dict(self.words), dict(self.pinned)
        for word, bits, mask in self.moves(predicate, wanted):
            if self.assign(word, bits, mask) and true_of(predicate, self.words) == wanted:
                return True
            self.words, self.pinned = dict(saved[0]), dict(saved[1])
        return False

    def moves(self, predicate, wanted):
        a, b, c, d = (value_of(x, self.words) for x in predicate[1:])
        names = predicate[1:]
        shape = predicate.shape.name
        every = MASK64
        opposite = {"EQUAL": "DIFFERENT", "DIFFERENT": "EQUAL", "MEMBER": "NO_MEMBER"}
        opposite |= {"NO_MEMBER": "MEMBER", "BITS_CLEAR": "ANY_SET", "ANY_SET": "BITS_CLEAR"}
        if not wanted and shape in opposite:
            shape, wanted = opposite[shape], True
        moves = []
        if shape == "BITS_CLEAR":
            moves = [(names[0], 0, b)]
        elif shape == "ANY_SET":
            moves = [(names[0], bit, bit) for bit in bits_of(b)]
        elif shape == "BITS_SET":
            moves = [(names[0], b, b)] if wanted else [(names[0], 0, bit) for bit in bits_of(b)]
        elif shape == "EQUAL":
            moves = [(names[0], b, c)]
        elif shape == "DIFFERENT":
            moves = [(names[0], b ^ bit, c) for bit in bits_of(c)]
        elif shape == "AT_MOST":
            moves = [(names[0], b, every)] if wanted else [(names[0], b + 1, every)]
            if isinstance(names[1], str):
                moves.append((names[1], a if wanted else a - 1 if a else 0, every))
        elif shape == "AT_LEAST":
            moves = [(names[0], b, every)] if wanted else [(names[0], b - 1 if b else 0, every)]
        elif shape == "ALLOWED":
            if wanted:
                moves = [(names[0], (a | b) & (b | c), every)]
            else:
                moves = [(names[0], bit, bit) for bit in bits_of(~(b | c) & every)]
                moves += [(names[0], 0, bit) for bit in bits_of(b)]
        elif shape == "SAME":
            flip = not a & c
            moves = [(names[0], c if flip else 0, c)]
            flip = not b & d
            moves += [(names[1], d if flip else 0, d)]
        elif shape == "CANONICAL":
            moves = [(names[0], 0 if wanted else 1 << (b - 1), every)]
        elif shape == "MEMORY_TYPES":
            moves = [(names[0], 0x0007040600070406 if wanted else 0x02, every)]
        elif shape == "MSR_AREA":
            moves = [(names[0], a & ~15 & ~c if wanted else a | 1, every)]
        elif shape == "RANGE":
            moves = [(names[0], 0 if wanted else lowest(c), every)]
        elif shape == "SHIFTED":
            moves = [(names[0], (b << c) & every if wanted else a ^ 1, every)]
        elif shape == "MEMBER":
            moves = [(names[0], n << d, c) for n in range(64) if b >> n & 1 and not n << d & ~c]
        elif shape == "NO_MEMBER":
            free = [n for n in range(64) if not b >> n & 1 and not n << d & ~c]
            moves = [(names[0], n << d, c) for n in free]
        return [(w, x & every, m & every) for w, x, m in moves if isinstance(w, str)]


def bits_of(mask):
    return [1 << i for i in range(64) if mask >> i & 1]


def break_alone(rows, good, name, hints=(), fixed=(), rounds=60):
    """Words in which the row `name` fails and no other does; None when the search finds none.

    `good` passes every row. `hints` are (word, bits, mask) assignments made first. `fixed` are
    words that may not change, such as capability MSRs.
    """
    search = Search(rows, good, fixed)
    search.derive()
    row = search.by_name[name]
    for word, bits, mask in hints:
        if not search.assign(word, bits, mask):
            return None
    if not all(search.make(p, True) for p in row.when):
        return None
    for p in row.when:
        pin(search, p)
    start = dict(search.words), dict(search.pinned)
    for move in [None, *search.moves(row.predicate, False)]:
        search.words, search.pinned = dict(start[0]), dict(start[1])
        if move is not None and not search.assign(*move):
            continue
        if true_of(row.predicate, search.words):
            continue
        pin(search, row.predicate)
        if mend(search, name, rounds):
            return search.words
    return None


def pin(search, predicate):
    """Words that a satisfied condition reads keep the bits that it reads."""
    a, b, c = predicate[1:4]
    if not isinstance(a, str) or a in search.lets:
        return
    shape = predicate.shape.name
    mask = c if shape in ("EQUAL", "DIFFERENT", "MEMBER", "NO_MEMBER", "SAME") else b
    if shape in ("CANONICAL", "AT_MOST", "AT_LEAST", "MEMORY_TYPES", "ALLOWED", "SHIFTED"):
        mask = MASK64
    search.pinned[a] = search.pinned.get(a, 0) | value_of(mask, search.words) & MASK64


def mend(search, name, rounds):
    for _ in range(rounds):
        failed = failures(search.rows, search.words)
        others = [other for other in failed if other != name]
        if not others:
            return failed == [name]
        other = search.by_name[others[0]]
        if search.make(other.predicate, True):
            continue
        if any(search.make(p, False) for p in other.when):
            continue
        return False
    return False

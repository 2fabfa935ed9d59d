"""The walk over check rows in plain Python integers, written from the rows' documentation alone."""

MASK64 = 2**64 - 1
PAT_TYPES = {0, 1, 4, 5, 6, 7}


def value_of(operand, words):
    return words[operand] if isinstance(operand, str) else operand & MASK64


def is_canonical(address, width):
    signed = address - 2**64 if address >= 2**63 else address
    return -(2 ** (width - 1)) <= signed < 2 ** (width - 1)


def true_of(predicate, words):
    a, b, c, d = (value_of(x, words) for x in predicate[1:])
    match predicate.shape.name:
        case "BITS_CLEAR":
            return not a & b
        case "BITS_SET":
            return not b & ~a
        case "ANY_SET":
            return bool(a & b)
        case "EQUAL":
            return (a & c) == b
        case "DIFFERENT":
            return (a & c) != b
        case "AT_MOST":
            return a <= b
        case "AT_LEAST":
            return a >= b
        case "ALLOWED":
            return not b & ~a and not a & ~(b | c)
        case "SAME":
            return bool(a & c) == bool(b & d)
        case "CANONICAL":
            return is_canonical(a, b)
        case "MEMORY_TYPES":
            return set(a.to_bytes(8, "little")) <= PAT_TYPES
        case "MSR_AREA":
            return a % 16 == 0 and not a & c and not (a + 16 * b - 1) & MASK64 & c
        case "RANGE":
            return not a & c and not (a + b - 1) & MASK64 & c
        case "SHIFTED":
            return a == (b << c) & MASK64
        case "MEMBER" | "NO_MEMBER":
            number = (a & c) >> d
            member = number < 64 and bool(b >> number & 1)
            return member == (predicate.shape.name == "MEMBER")
    raise AssertionError(predicate)


def fails(row, words):
    return not true_of(row.predicate, words)


def walk(rows, words):
    """(name of the stopping row or None, names of effects met, words with derived ones)."""
    words, effects = dict(words), []
    for row in rows:
        wanted = all(true_of(p, words) for p in row.when)
        kind = row.kind.name
        if kind == "LET":
            a, right, mask = (value_of(x, words) for x in row.predicate[1:4])
            words[row.target] = (a >> right) & mask if wanted else 0
        elif kind == "EFFECT" and wanted:
            effects.append(row.name)
        elif wanted and (kind == "RETURNS" or (kind == "CHECK" and fails(row, words))):
            return row.name, effects, words
    return None, effects, words


def failures(rows, words):
    """Names of all checks that apply and fail, up to the first return that applies."""
    words, failed = dict(words), []
    for row in rows:
        wanted = all(true_of(p, words) for p in row.when)
        kind = row.kind.name
        if kind == "LET":
            a, right, mask = (value_of(x, words) for x in row.predicate[1:4])
            words[row.target] = (a >> right) & mask if wanted else 0
        elif kind == "RETURNS" and wanted:
            break
        elif kind == "CHECK" and wanted and fails(row, words):
            failed.append(row.name)
    return failed

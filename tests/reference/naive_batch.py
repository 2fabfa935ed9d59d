"""Records and their fields in plain Python: bytes, slices and dictionaries."""


def read(record, place):
    """The field at `place` (name, offset, width) of a record's bytes, as a number."""
    _, offset, width = place
    return int.from_bytes(record[offset : offset + width], "little")


def write(record, place, value):
    """A record with the field at `place` replaced by the low bytes of `value`."""
    _, offset, width = place
    low = (value % (1 << 8 * width)).to_bytes(width, "little")
    return record[:offset] + low + record[offset + width :]


def gather(records, places):
    return [[read(record, place) for place in places] for record in records]


def scatter(records, places, words):
    result = []
    for record, row in zip(records, words, strict=True):
        written = record
        for place, word in zip(places, row, strict=True):
            written = write(written, place, word)
        result.append(written)
    return result


def copied(sources, source_places, targets, target_places, names):
    """Targets with the fields `names` of the sources; places are by name."""
    result = []
    for source, target in zip(sources, targets, strict=True):
        written = target
        for name in names:
            value = read(source, source_places[name])
            written = write(written, target_places[name], value)
        result.append(written)
    return result


def differences(left, left_places, right, right_places, names):
    """Names of the fields that differ, a record, in the order of `names`."""
    return [
        [name for name in names if read(a, left_places[name]) != read(b, right_places[name])]
        for a, b in zip(left, right, strict=True)
    ]


def crc32c(data):
    """CRC32C of bytes by long division, a bit a step (RFC 3720, appendix B.4)."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def fnv1a_64(data):
    """FNV-1a, 64 bits, of bytes."""
    total = 0xCBF29CE484222325
    for byte in data:
        total = (total ^ byte) * 0x100000001B3 % 2**64
    return total

from emu.memory import GuestMemory, MemorySlot

PAGE = 4096


def memory(*slots):
    made = GuestMemory()
    for number, (gpa, size) in enumerate(slots):
        made.add(MemorySlot(number, gpa, size))
    return made


def test_a_slot_that_nobody_wrote_reads_as_zeroes():
    made = memory((0, 2 * PAGE))

    assert bytes(PAGE) == made.read(100, PAGE)
    assert 0 == made.read_word(8, 8)


def test_what_is_written_is_read_back_and_seen_in_the_slot_s_bytes():
    made = memory((PAGE, PAGE))

    assert made.write(PAGE + 4, b"\x78\x56\x34\x12")
    assert 0x12345678 == made.read_word(PAGE + 4, 4)
    assert 0x78 == made.slots[0].data[4]


def test_reads_and_writes_go_over_adjoining_slots():
    made = memory((0, PAGE), (PAGE, PAGE))

    assert made.write(PAGE - 2, b"abcd")
    assert b"abcd" == made.read(PAGE - 2, 4)


def test_memory_that_no_slot_backs_is_not_there():
    made = memory((0, PAGE))

    assert made.read(PAGE, 1) is None
    assert made.read(PAGE - 2, 4) is None
    assert made.read_word(1 << 40, 8) is None
    assert made.find(PAGE - 2, 4) is None


def test_a_write_stops_at_the_first_page_that_is_not_there():
    made = memory((0, PAGE))

    assert not made.write(PAGE - 2, b"abcd")
    assert b"ab" == made.read(PAGE - 2, 2)


def test_slots_overlap_by_their_addresses():
    made = memory((PAGE, PAGE))
    slot = made.slots[0]

    assert made.overlaps(PAGE, PAGE)
    assert made.overlaps(0, PAGE + 1)
    assert not made.overlaps(0, PAGE)
    assert not made.overlaps(PAGE, PAGE, but=slot)

    made.remove(slot)

    assert not made.overlaps(PAGE, PAGE)

"""The editions that citations refer to are named once, and every citation kind has one."""

from vmcs.editions import APM, EDITIONS, SDM


def test_editions_are_named_by_the_words_that_rows_use():
    assert ("SDM", "APM") == tuple(edition.short for edition in EDITIONS)


def test_full_name_holds_order_number_and_date():
    assert SDM.full.endswith(", 325384-092US, June 2026")
    assert APM.full.endswith(", 24593 revision 3.42, March 2024")

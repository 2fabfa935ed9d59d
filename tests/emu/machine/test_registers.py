import pytest

from emu.machine.registers import RO, RW, Register, registers

GOOD = Register(0, "A", RW, 0xFF, 0, "a datasheet")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((GOOD, GOOD._replace(offset=1)), "'A' occurs twice"),
        ((GOOD, GOOD._replace(name="B")), "occurs twice"),
        ((GOOD._replace(writable=0x100),), "wider than 8 bits"),
        ((GOOD._replace(reset=0x100),), "wider than 8 bits"),
        ((GOOD._replace(access=RO),), "cannot be written"),
        ((GOOD._replace(source=""),), "cites nothing"),
    ],
)
def test_wrong_table_cannot_be_used(rows, message):
    with pytest.raises(ValueError, match=message):
        registers("device", rows, width=8)

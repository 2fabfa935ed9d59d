"""The VMX controls as plain integers, for paths that ask too often for an `IntFlag`."""

from types import SimpleNamespace
from typing import Final

from vmcs.schema import BitTable
from vmcs.vmx import controls


def plain(table: type[BitTable]) -> SimpleNamespace:
    """The members of `table` as integers under their names."""
    return SimpleNamespace(**{name: int(member) for name, member in table.__members__.items()})


PinBased: Final = plain(controls.PinBased)
ProcBased: Final = plain(controls.ProcBased)
ProcBased2: Final = plain(controls.ProcBased2)
Exit: Final = plain(controls.Exit)
Entry: Final = plain(controls.Entry)

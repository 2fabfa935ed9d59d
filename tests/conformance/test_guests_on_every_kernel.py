"""Every guest that ships, under every release: the same lines everywhere."""

import pytest

from emu.guests import GUESTS
from emu.releases import RELEASES
from tests.emu.guests.lines import LINES
from tests.emu.kvm.running.machines import guest_on

# What KVM did not offer L1 yet, and what L1 says then.
NOT_OFFERED = {("vmx-shadow", "4.18"): "MSR 0x48b does not allow 0x4000"}


@pytest.mark.conformance
@pytest.mark.parametrize("kernel", list(RELEASES))
@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.name)
def test_the_guest_prints_the_same(guest, kernel):
    ended = guest_on(guest.name, kernel).finish()

    if (guest.name, kernel) in NOT_OFFERED:
        assert NOT_OFFERED[guest.name, kernel] in ended.output.decode()
    else:
        assert LINES[guest.name] == ended.output.decode()

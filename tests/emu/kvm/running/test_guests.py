"""The guests that ship under simulated KVMs: what they print does not depend on the release."""

import pytest

from emu.guests import GUESTS
from emu.machine.board import Reason
from emu.migration.running import core_of
from tests.emu.guests.lines import LINES
from tests.emu.kvm.running.machines import guest_on

# Kernels in whose code an exit goes another way: one control block or two on AMD, the first with
# nested state, the first with capability MSRs, long-term ones.
FEW = ("5.4", "5.10.262", "5.13", "7.3")


def ids(value):
    return getattr(value, "name", value)


@pytest.mark.parametrize("guest", GUESTS, ids=ids)
def test_the_guest_does_under_kvm_what_it_does_without(guest):
    ended = guest_on(guest.name, "6.12.115").finish()

    assert LINES[guest.name] == ended.output.decode()
    assert (Reason.DEBUG_EXIT, 1) == (ended.outcome.reason, ended.outcome.status)


@pytest.mark.parametrize("kernel", FEW)
@pytest.mark.parametrize("name", ["vmx-inject", "svm-inject", "vmx-shadow", "svm-halt"])
def test_so_it_does_under_other_kernels(name, kernel):
    assert LINES[name] == guest_on(name, kernel).finish().output.decode()


def test_two_runs_are_the_same_exit_by_exit():
    first, second = (guest_on("vmx-timer", "6.1").finish() for _ in range(2))

    assert first == second
    assert first.checksum != 0


def test_every_exit_can_be_watched():
    guest = guest_on("svm-pae", "6.1")
    seen = []
    core_of(guest.board).l0.watch = lambda l0: seen.append((l0.exits, l0.exit_code))
    ended = guest.finish()

    assert list(range(1, ended.exits + 1)) == [number for number, _ in seen]


def test_nested_state_in_the_middle_is_what_l1_has_made():
    """After VMLAUNCH, before L2 has run: guest mode, the run pending, L1's vmcs12."""
    guest = guest_on("vmx-churn", "6.12.115")
    core = core_of(guest.board)
    found = []

    def watch(l0):
        if l0.vmx.nested.run_pending and not found:
            found.append((l0.vcpu.nested_state(), l0.vmx.nested.vmcs12_pa))

    core.l0.watch = watch
    guest.finish()
    state, pointer = found[0]

    assert 0x3 == state.flags
    assert pointer == state.vmcs12_pa
    assert 1 == state.vmcs12.VM_ENTRY_CONTROLS >> 9 & 1

"""Guests that are moved while they run, beside twins that are not."""

import pytest

from emu.errors import InputError
from emu.guests import find
from emu.migration.running import core_of, move_running, run_to_exit
from tests.emu.kvm.running.machines import guest_on, kvm_for, model_for


def moved(name, source, destination, at_exit):
    kernels = (kvm_for(name, source), kvm_for(name, destination))
    return move_running(find(name).image(), name, *kernels, model_for(name), at_exit)


def exits_where(name, kernel, wanted):
    """Numbers of the exits after which `wanted(l0)` holds."""
    guest = guest_on(name, kernel)
    found = []

    def watch(l0):
        if wanted(l0):
            found.append(l0.exits)

    core_of(guest.board).l0.watch = watch
    guest.finish()
    return found


def has_run_pending(l0):
    return l0.vcpu.operations.nested.run_pending


def is_in_l2(l0):
    return l0.vcpu.operations.in_guest_mode and not has_run_pending(l0)


@pytest.mark.parametrize(
    ("name", "source", "destination"),
    [
        ("vmx-inject", "5.10.262", "6.12.115"),
        ("vmx-inject", "6.12.115", "5.10.262"),
        ("svm-inject", "5.10.262", "6.12.115"),
        ("svm-inject", "6.12.115", "5.10.262"),
        ("vmx-churn", "6.1.192", "7.2.13"),
        ("svm-churn", "7.2.13", "6.1.192"),
    ],
)
def test_a_guest_that_is_moved_with_its_run_pending_does_what_its_twin_does(
    name, source, destination
):
    entering = exits_where(name, source, has_run_pending)
    verdict = moved(name, source, destination, entering[len(entering) // 2])

    assert verdict.refused is None
    assert not verdict.lost
    assert verdict.same_trace


def test_a_kernel_that_has_no_nested_state_refuses():
    verdict = moved("svm-inject", "6.1.192", "5.4", 300)

    assert verdict.refused is not None
    assert verdict.moved is None


def test_a_preemption_timer_whose_deadline_is_not_carried_starts_again():
    """Before 5.8 the header has no deadline (arch/x86/kvm/vmx/nested.c: vmx_get_nested_state)."""
    inside = exits_where("vmx-preemption", "6.1.192", is_in_l2)
    at_exit = inside[len(inside) // 2]
    kept = moved("vmx-preemption", "6.1.192", "7.2.13", at_exit)
    lost = moved("vmx-preemption", "6.1.192", "5.4", at_exit)

    assert kept.same_trace
    assert lost.moved is not None
    assert lost.moved.exits > lost.twin.exits


def test_a_guest_that_has_ended_cannot_be_moved():
    guest = guest_on("svm-pae", "6.1")

    with pytest.raises(InputError, match="before 100000"):
        run_to_exit(guest.board, 100000)

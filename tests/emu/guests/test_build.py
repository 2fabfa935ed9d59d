import pytest

from emu.guests import GUESTS, HERE, find
from emu.guests.build import build


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.name)
def test_the_image_that_ships_is_its_source_built(guest):
    assert guest.image() == build(guest)


def test_every_image_is_of_a_guest():
    assert {guest.path for guest in GUESTS} == set((HERE / "images").iterdir())


def test_a_guest_is_found_by_its_name():
    guest = find("vmx-churn")

    assert guest is not None
    assert ("vmx", "churn") == (guest.vendor, guest.scenario)
    assert find("churn") is None


@pytest.mark.parametrize("part", sorted((HERE / "source").iterdir()), ids=lambda path: path.stem)
def test_a_source_can_be_read_in_one_sitting(part):
    lines = part.read_text().splitlines()

    assert lines[0].startswith("# ")
    assert len(lines) <= 500
    assert max(map(len, lines)) <= 100

import pytest

from emu.releases import RELEASES
from emu.releases.schema import FACTS


def test_the_list_has_every_release_oldest_first(nestling):
    answer = nestling("releases")
    first = [line.split()[0] for line in answer.out.splitlines()]
    names = [name for name in first if name in RELEASES]

    assert 0 == answer.code
    assert list(RELEASES) == names


def test_one_release_states_its_differences_and_where_each_was_seen(nestling):
    [out, listed] = nestling("releases", "5.7").out, nestling("releases", "5.7", "--json").json

    assert "Linux 5.7, based on 5.6" in out
    assert "KVM_STATE_NESTED_MTF_PENDING" in out
    assert len(RELEASES["5.7"].differences) == len(listed["differences"])
    assert all(difference["seen"] for difference in listed["differences"])
    assert "facts" not in listed


def test_resolved_has_every_fact(nestling):
    facts = nestling("releases", "7.3", "--resolved", "--json").json["facts"]
    out = nestling("releases", "7.3", "--resolved").out

    assert [fact.name for fact in FACTS] == list(facts)
    assert 8320 == facts["vmx_maximum_size"]
    assert all(fact.name in out for fact in FACTS)


def test_a_release_without_differences_says_so(nestling):
    assert "no difference that nested state can show" in nestling("releases", "7.2.13").out


def test_the_whole_list_as_json_names_bases(nestling):
    listed = nestling("releases", "--json").json

    assert list(RELEASES) == [row["name"] for row in listed]
    assert {row["base"] for row in listed} <= {None, *RELEASES}


@pytest.mark.parametrize(
    ("name", "words"),
    [("5.99", "no release is named '5.99'; known: 5.0, 5.1"), ("no.toml", "No such file")],
)
def test_an_unknown_kernel_is_refused_in_one_line(nestling, name, words):
    answer = nestling("releases", name)

    assert 2 == answer.code
    assert words in answer.complaint

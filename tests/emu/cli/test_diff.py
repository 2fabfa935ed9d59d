import pytest


def test_two_states_differ_by_field(nestling):
    answer = nestling("diff", "vmx-l2-running", "vmx-l2-mtf-pending", "--json")

    assert 1 == answer.code
    assert [
        {
            "where": "header",
            "name": "flags",
            "a": "0x1 GUEST_MODE",
            "b": "0x9 GUEST_MODE | MTF_PENDING",
        }
    ] == answer.json


def test_a_page_that_one_state_lacks_is_listed(nestling):
    rows = nestling("diff", "vmx-l1-vmxon", "vmx-l2-running", "--json").json

    assert {("vmcs12", "guest_cr0", "", "0x80050033")} <= {tuple(row.values()) for row in rows}


@pytest.mark.parametrize("name", ["svm-l2-running", "5.8"])
def test_what_is_the_same_does_not_differ(nestling, name):
    answer = nestling("diff", name, name)

    assert 0 == answer.code
    assert "no difference\n" == answer.out


def test_two_kernels_differ_by_fact(nestling):
    answer = nestling("diff", "5.6", "5.7")

    assert 1 == answer.code
    assert "KVM_STATE_NESTED_MTF_PENDING" in answer.out


def test_a_grown_kernel_differs_from_its_base(nestling, tmp_path):
    path = tmp_path / "v2.toml"
    path.write_text(
        'name = "v2"\nbase = "6.12"\n[[grow]]\nplace = "page"\nname = "more"\n'
        'offset = 8320\nwidth = 4096\nannounced_by = "size"\n'
    )
    rows = nestling("diff", "6.12", path, "--json").json

    assert [
        {"where": "vmx_maximum_size", "name": "", "a": "8320", "b": "12416"},
        {"where": "growth", "name": "more", "a": "", "b": "yes"},
    ] == rows


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        (("5.4", "vmx-l2-running"), "one is a kernel, the other a nested state"),
        (("vmx-l2-running", "elsewhere"), "neither a file, nor a shipped capture, nor a kernel"),
        (("5.4", "elsewhere.toml"), "elsewhere.toml: cannot be read"),
    ],
)
def test_sides_that_cannot_be_compared_are_refused_in_one_line(nestling, sides, words):
    answer = nestling("diff", *sides)

    assert 2 == answer.code
    assert words in answer.complaint

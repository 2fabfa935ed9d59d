import pytest

from emu.migration.capture import shipped
from tests.emu.cli.bad_files import BAD_FILES, BLOB, STREAM


def test_a_shipped_capture_is_told_by_name(nestling):
    answer = nestling("show", "vmx-l2-mtf-pending")

    assert 0 == answer.code
    assert "an MTF VM exit is pending in L2" in answer.out
    assert "recorded verdict vmx-6.12 case 38" in answer.out
    assert "0x9  GUEST_MODE | MTF_PENDING" in answer.out
    assert "guest_cr3                             0x10000" in answer.out


def test_zero_members_are_shown_when_asked_for(nestling):
    short = nestling("show", "vmx-l2-running").out
    whole = nestling("show", "vmx-l2-running", "--all").out

    assert "102 other members are zero" in short
    assert "other members are zero" not in whole
    assert len(short.splitlines()) + 101 == len(whole.splitlines())


def test_what_is_unusual_is_marked(nestling, tmp_path):
    blob = bytearray(BLOB)
    blob[0] |= 0x40
    path = tmp_path / "state.bin"
    path.write_bytes(blob)
    marked = [line for line in nestling("show", path).out.splitlines() if line.startswith("!")]

    assert 1 == len(marked)
    assert marked[0].endswith("<- reserved bits 0x40")


@pytest.mark.parametrize("name", shipped())
def test_json_has_every_section_and_member(nestling, name):
    [state] = nestling("show", name, "--json").json
    capture = shipped()[name]
    header, *pages = state["sections"]
    values = {member["name"]: member["value"] for member in header["members"]}

    assert name == state["name"]
    assert len(capture.blob) == state["bytes"] == values["size"]
    assert capture.cr0 == state["registers"]["cr0"]
    assert "header" == header["title"]
    assert [capture.format.name] == header["members"][1]["meaning"]
    assert (len(capture.blob) > 128) == bool(pages)


FORMS = {
    "raw": BLOB,
    "hexadecimal": BLOB.hex().encode(),
    "hexadecimal in lines": "\n".join(BLOB.hex(" ", 16).split()).encode(),
    "longer than it says": BLOB + bytes(1000),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=list(FORMS))
def test_a_file_in_any_form_is_the_same_state(nestling, tmp_path, content):
    path = tmp_path / "state"
    path.write_bytes(content)
    [found] = nestling("show", path, "--json").json
    [expected] = nestling("show", "vmx-l2-running", "--json").json

    assert expected["sections"] == found["sections"]


def test_every_vcpu_of_a_stream_is_shown(nestling, tmp_path):
    path = tmp_path / "guest.stream"
    path.write_bytes(STREAM)
    states = nestling("show", path, "--json").json

    assert [f"{path}#vcpu0", f"{path}#vcpu1"] == [state["name"] for state in states]
    assert [4224, 4224] == [state["bytes"] for state in states]
    assert [["SVM"], ["SVM"]] == [s["sections"][0]["members"][1]["meaning"] for s in states]


@pytest.mark.parametrize("command", ["show", "judge"])
@pytest.mark.parametrize(("content", "words"), BAD_FILES.values(), ids=list(BAD_FILES))
def test_a_file_that_holds_no_state_is_refused_in_one_line(
    nestling, tmp_path, command, content, words
):
    path = tmp_path / "file"
    path.write_bytes(content)
    answer = nestling(command, path)

    assert 2 == answer.code
    assert words in answer.complaint
    assert str(path) in answer.complaint


def test_a_file_that_is_not_there_or_a_folder_is_refused_in_one_line(nestling, tmp_path):
    missing, folder = nestling("show", tmp_path / "missing"), nestling("show", tmp_path)

    assert (2, 2) == (missing.code, folder.code)
    assert "No such file or directory; shipped captures: svm-" in missing.complaint
    assert "Is a directory" in folder.complaint

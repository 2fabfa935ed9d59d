"""The tree as a whole: whose machine it was written on cannot be seen, and modules stay short."""

import re

import pytest

from tests.style.sources import ROOT

FOLDERS = ("emu", "vmcs", "tests", "bench", "notebooks", ".ci")
TEXT = {".py", ".md", ".toml", ".json", ".csv", ".ipynb", ".cfg", ".txt", ""}
LONGEST = 720

# Built of parts, so that this file does not contain what it looks for.
UNWANTED = {
    "a path of one machine": re.compile(
        r"(?<![\w.}])/(?:" + "|".join(("home", "root", "work", "tmp", "mnt", "Users")) + r")/\w"
    ),
    "a note to finish it later": re.compile(r"\b(?:TO" + "DO|FIX" + "ME|X" + "XX|HA" + r"CK)\b"),
    "a promise": re.compile(
        r"\bfor " + r"now\b(?!,)|\bnot " + r"implemented\b(?!:)", re.IGNORECASE
    ),
}


def texts():
    """Every text file of the project, by its path from the root."""
    files = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT]
    for folder in FOLDERS:
        files += [
            path
            for path in sorted((ROOT / folder).rglob("*"))
            if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts
        ]
    return {str(path.relative_to(ROOT)): path for path in files if not path.name.startswith(".git")}


TEXTS = texts()
MODULES = [name for name in TEXTS if name.endswith(".py")]


@pytest.mark.parametrize("what", UNWANTED)
def test_no_file_holds(what):
    pattern = UNWANTED[what]
    found = [
        f"{name}:{number}"
        for name, path in TEXTS.items()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]

    assert [] == found


def test_what_is_looked_for_would_be_found():
    lines = ("see /" + "home/me/x", "# TO" + "DO: more", "good enough for " + "now")

    for pattern, line in zip(UNWANTED.values(), lines, strict=True):
        assert pattern.search(line)


def test_every_folder_is_looked_through():
    assert {name.split("/")[0] for name in TEXTS} >= set(FOLDERS) - {"notebooks"}
    assert len(MODULES) > 200


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_one_subject(name):
    lines = len(TEXTS[name].read_text(encoding="utf-8").splitlines())

    assert lines <= LONGEST


def test_only_the_agreed_names_stand_at_the_top():
    allowed = {
        *("emu", "vmcs", "tests", "bench", "notebooks"),
        *("pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "LICENSE"),
    }
    made = {"build", "dist", "out", "nestling.egg-info", "demo.log"}
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}

    assert set() == names - allowed - made

"""The examples of the package's README run, and its glossary defines each word once."""

import doctest
import re
from collections import Counter
from pathlib import Path

README = Path(__file__).parents[2] / "vmcs" / "README.md"


def test_examples_run():
    result = doctest.testfile(str(README), module_relative=False)

    assert 0 == result.failed
    assert result.attempted >= 6


def test_glossary_defines_each_word_once():
    glossary = README.read_text(encoding="utf-8").split("## Glossary")[1]
    words = [
        word.strip()
        for first in re.findall(r"^\| ([^|]+) \|", glossary, flags=re.MULTILINE)
        if first not in ("word", "---")
        for word in first.split(",")
    ]

    assert [] == [word for word, count in Counter(words).items() if count > 1]


def test_every_module_that_the_readme_names_exists():
    modules = re.findall(r"^\| `([^`]+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE)

    assert modules
    assert [] == [name for name in modules if not (README.parent / name).exists()]

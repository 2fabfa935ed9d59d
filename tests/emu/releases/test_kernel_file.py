import pytest

from emu.errors import InputError, KernelFileError
from emu.releases import release
from emu.releases.kernel_file import load_kernel, parse_kernel

HEAD = 'name = "6.12-v2"\nbase = "6.12"\n'
PAGE = '[[grow]]\nplace = "page"\nname = "more"\noffset = 8320\nwidth = 4096\n'


def test_a_page_raises_the_maximum_size():
    kernel = parse_kernel(HEAD + PAGE + 'announced_by = "size"\n')

    assert kernel.name == "6.12-v2"
    assert kernel.base is release("6.12")
    assert kernel.number("vmx_maximum_size") == 8320 + 4096
    assert [item.name for item in kernel.growth] == ["more"]


def test_differences_are_resolved_like_those_of_a_release():
    text = HEAD + (
        '[[change]]\nfact = "entry_failure_status"\nvalue = 7\n'
        '[[add]]\nfact = "behaviours"\nmember = "sings"\n'
    )
    kernel = parse_kernel(text, "kernel.toml")

    assert kernel.number("entry_failure_status") == 7
    assert kernel.does("sings")
    assert kernel.origin("behaviours", "sings")[1].seen == "kernel.toml"


BROKEN = {
    'name = "x"\n': ("1|", "lacks 'base'"),
    'name = "x"\nbase = "9.99"\n': (":2:", "no release is named '9.99'"),
    "name = \n": (":1:", "not TOML"),
    'name = "x"\n\n\nbase = 6.12\n': (":4:", "base must be a string"),
    HEAD + "speed = 1\n": (":3:", "no key 'speed'"),
    HEAD + '[grow]\nplace = "page"\n': (":3:", "write [[grow]]"),
    HEAD + '[[grow]]\nplace = "page"\n': (":3:", "lacks 'name'"),
    HEAD + '[[grow]]\nplace = "moon"\nname = "a"\n': (":4:", "no place is named 'moon'"),
    HEAD + PAGE.replace("8320", "8192"): (":6:", "a page starts at 8320 or above"),
    HEAD + PAGE.replace("4096", "100"): (":7:", "multiple of 4096"),
    HEAD + PAGE + PAGE: (":10:", "'more' is there already"),
    HEAD + PAGE + PAGE.replace("more", "again"): (":11:", "'again' overlaps 'more'"),
    HEAD + PAGE + 'announced_by = "smoke"\n': (":8:", "is no flag, capability or quirk"),
    HEAD + '[[grow]]\nplace = "flag"\nname = "F"\nvalue = 1\n': (":6:", "free bits of 16"),
    HEAD + '[[grow]]\nplace = "flag"\nname = "F"\n': (":3:", "needs a value above 0"),
    HEAD + '[[grow]]\nplace = "header"\nname = "H"\noffset = 32\nwidth = 8\n': (
        ":6:",
        "header bytes 32-39 are not free",
    ),
    HEAD + '[[grow]]\nplace = "vmcs12"\nname = "V"\noffset = 340\nwidth = 8\n': (
        ":6:",
        "vmcs12 bytes 340-347 are not free",
    ),
    HEAD + '[[grow]]\nplace = "header"\nname = "H"\noffset = 48\nwidth = 3\n': (
        ":7:",
        "width must be 1, 2, 4 or 8",
    ),
    HEAD + '[[add]]\nfact = "colour"\nmember = "red"\n': (":4:", "no fact is named 'colour'"),
    HEAD + '[[add]]\nfact = "vmx_maximum_size"\nmember = "x"\n': (":4:", "is a number"),
    HEAD + '[[change]]\nfact = "behaviours"\nvalue = 1\n': (":4:", "is a set of names"),
    HEAD + '[[remove]]\nfact = "behaviours"\nmember = "sings"\n': (":5:", "does not have sings"),
    HEAD + '[[change]]\nfact = "vmx_maximum_size"\nvalue = "8"\n': (":5:", "must be a number"),
}


@pytest.mark.parametrize(("text", "expected"), BROKEN.items())
def test_a_broken_kernel_file_is_reported_with_its_line(text, expected):
    place, words = expected
    with pytest.raises(KernelFileError) as caught:
        parse_kernel(text, "kernel.toml")

    assert words in str(caught.value)
    assert place == "1|" or f"kernel.toml{place}" in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_reported(tmp_path):
    binary = tmp_path / "kernel.toml"
    binary.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_kernel(tmp_path / "missing.toml")
    with pytest.raises(KernelFileError, match="not UTF-8 text"):
        load_kernel(binary)

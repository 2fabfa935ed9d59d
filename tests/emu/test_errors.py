import inspect
import pickle
from errno import E2BIG, EINVAL

import pytest

import emu.errors
from emu.errors import EmuError, InputError, KernelFileError, KvmError, StateError
from emu.migration.qemu_stream import StreamError


def test_the_tree_is_drawn_as_it_is():
    drawn = inspect.getdoc(emu.errors)
    classes = [value for value in vars(emu.errors).values() if inspect.isclass(value)]

    assert all(issubclass(found, EmuError) for found in classes)
    assert all(found.__name__ in drawn for found in classes)


def test_an_error_of_a_kernel_names_ioctl_errno_and_rule():
    error = KvmError("KVM_GET_NESTED_STATE", E2BIG, "nested_state_fits", "4224 bytes, 128 given")

    assert "KVM_GET_NESTED_STATE: E2BIG: nested_state_fits: 4224 bytes, 128 given" == str(error)
    assert "a: EINVAL: b" == str(KvmError("a", EINVAL, "b"))
    assert ("nested_state_fits", E2BIG) == (error.rule, error.errno)
    assert not isinstance(error, InputError)


def test_an_error_of_a_state_says_where():
    assert "at byte 4: cut short" == str(StateError("cut short", 4))
    assert "cut short" == str(StateError("cut short"))


def test_an_error_of_a_kernel_file_has_the_line():
    assert "k.toml:3: no key" == str(KernelFileError("k.toml", 3, "no key"))
    assert "k.toml: cannot be read" == str(KernelFileError("k.toml", None, "cannot be read"))


@pytest.mark.parametrize("kind", [InputError, StateError, StreamError])
def test_bad_input_of_any_kind_is_one_error_to_the_command_line(kind):
    assert issubclass(kind, InputError)


def test_bad_input_found_in_a_worker_arrives_with_its_words():
    assert "x: no such file" == str(pickle.loads(pickle.dumps(InputError("x: no such file"))))

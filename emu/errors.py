"""Every error that Nestling raises on purpose.

::

    EmuError
    ├── InputError            what the user gave is not what it should be: exit code 2
    │   ├── StateError        a nested-state blob: cut short, of another kind, inconsistent
    │   ├── StreamError       a QEMU migration stream that breaks its grammar (qemu_stream)
    │   └── KernelFileError   a user's kernel file (TOML), with the line
    └── KvmError              an ioctl failed as KVM fails it

Errors that a vCPU's guest sees are no exceptions of Python: they are values in its state.
"""

from errno import errorcode


class EmuError(Exception):
    """Root of Nestling's errors."""


class InputError(EmuError):
    """What the user gave is not what it should be: the message says what, and where."""


class StateError(InputError):
    """Bytes that should be nested state are not, at `offset` of `where` if that is known."""

    def __init__(self, message: str, offset: int | None = None, where: str = "") -> None:
        place = "" if offset is None else f"at byte {offset}: "
        super().__init__(f"{where}: {place}{message}" if where else place + message)
        self.offset = offset


class KernelFileError(InputError):
    """A kernel file breaks a rule of its format at `line` (1-based; None: the whole file)."""

    def __init__(self, path: str, line: int | None, message: str) -> None:
        place = path if line is None else f"{path}:{line}"
        super().__init__(f"{place}: {message}")
        self.path, self.line = path, line


class KvmError(EmuError):
    """An ioctl failed as KVM fails it: `errno` for the program, `rule` for the reader."""

    def __init__(self, ioctl: str, errno: int, rule: str, detail: str = "") -> None:
        text = f"{ioctl}: {errorcode[errno]}: {rule}"
        super().__init__(f"{text}: {detail}" if detail else text)
        self.ioctl, self.errno, self.rule, self.detail = ioctl, errno, rule, detail

"""Fixtures and settings that every test shares."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "nestling",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nestling")

IMAGES = "NESTLING_KVM_UNIT_TESTS"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where test images that are built outside the tree are."""
    parser.addoption(
        "--kvm-unit-tests",
        metavar="DIR",
        default=os.environ.get(IMAGES) or None,
        help=f"the folder with x86/*.flat of kvm-unit-tests (default: {IMAGES})",
    )


@pytest.fixture
def kvm_unit_tests(request: pytest.FixtureRequest) -> Path | None:
    """The folder with the images of kvm-unit-tests; None when there is none."""
    name = request.config.getoption("--kvm-unit-tests")
    return Path(name) if name else None


# GNU readline, which pytest imports, exports the size of the terminal to the processes that it
# starts, 80 columns where there is none; pytest-xdist's workers are such processes.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
    os.unsetenv(name)  # readline's copy is not in os.environ

"""Fixtures and settings that every test shares."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "nestling",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nestling")

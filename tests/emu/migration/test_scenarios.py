from pathlib import Path

from emu.migration.capture import shipped
from emu.migration.matrix import SCENARIOS, tally
from emu.migration.policy import POLICIES
from emu.migration.scenarios import example_kernels, example_pools, scenario_captures


def test_an_example_kernel_grows_in_each_place_that_can_hold_content():
    places = [item.place for kernel in example_kernels() for item in kernel.growth]

    assert ["header", "page", "vmcs12"] == places
    assert all(item.sample for kernel in example_kernels() for item in kernel.growth)


def test_a_pool_is_a_kernel_and_the_release_that_it_grew_from():
    assert [("6.12", kernel.name) for kernel in example_kernels()] == [
        (pool.old.name, pool.new.name) for pool in example_pools()
    ]


def test_states_are_those_that_real_kernels_handed_out():
    recorded = [name for name, c in shipped().items() if c.recorded and name.startswith("vmx")]

    assert recorded == [capture.name for capture in scenario_captures()]
    assert 5 == len(recorded)


def test_the_readme_has_the_counts_of_the_tool():
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    for how in POLICIES:
        counts = [tally(s, how, example_pools(), scenario_captures()) for s in SCENARIOS]
        cells = [
            f"{one.kept}{f' (+{one.withheld})' if one.withheld else ''} / {one.lossy} / {one.refused}"
            for one in counts
        ]
        title = f"{how.title} {how.option}".strip()

        assert f"| {title} | {' | '.join(cells)} |" in readme

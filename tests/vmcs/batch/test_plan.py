"""Plans: fields that lie side by side are one run, and each byte moves once."""

from hypothesis import given
from hypothesis import strategies as st

from tests.vmcs.batch.strategies import pairs_of_layouts
from vmcs.batch import VMCS, VMCS12, Place, RecordLayout, vmcs12_layout
from vmcs.batch.plan import BLOCK, Run, common_names, plan_copy


def unpacked(ops, bounds):
    """Source, target and width of each word operation of a plan."""
    for width, first, end in zip((8, 4, 2, 1), bounds, bounds[1:], strict=False):
        for word in ops[first:end].tolist():
            yield word & 0xFFFF_FFFF, word >> 32, width


@given(st.data())
def test_each_byte_of_each_field_moves_once(data):
    left, right = data.draw(pairs_of_layouts())
    names = tuple(data.draw(st.lists(st.sampled_from(left.names), unique=True)))
    plan = plan_copy(left, right, names)
    expected = sorted(
        (left.place(name).offset + k, right.place(name).offset + k)
        for name in names
        for k in range(left.place(name).width)
    )
    moves = [*unpacked(plan.ops, plan.bounds), *map(tuple, plan.blocks.tolist())]
    moved = sorted((at + k, to + k) for at, to, length in moves for k in range(length))

    assert expected == moved
    assert expected == sorted(
        (run.source + k, run.target + k) for run in plan.runs for k in range(run.length)
    )


def test_releases_of_vmcs12_differ_in_a_few_runs():
    """The layout never moved a member, so that between releases only padding parts the runs."""
    plan = plan_copy(vmcs12_layout("dead_space"), VMCS12, None)

    assert (Run(0, 0, 12), Run(40, 40, 280)) == plan.runs[:2]
    assert 7 >= len(plan.runs)
    assert {run.length for run in plan.runs if run.length >= BLOCK} == set(
        plan.blocks[:, 2].tolist()
    )


def test_runs_join_only_where_both_layouts_do():
    left = RecordLayout("left", 16, [Place("A", 0, 4), Place("B", 4, 4), Place("C", 8, 4)])
    right = RecordLayout("right", 16, [Place("A", 4, 4), Place("B", 8, 4), Place("C", 0, 4)])

    assert (Run(8, 0, 4), Run(0, 4, 8)) == plan_copy(left, right, None).runs


def test_a_plan_touches_the_cache_lines_of_its_fields():
    left = RecordLayout("left", 256, [Place("A", 60, 8), Place("B", 200, 4)])
    plan = plan_copy(left, left, None)

    assert [0, 64, 192] == plan.source_lines.tolist() == plan.target_lines.tolist()


def test_common_names_are_in_the_order_of_the_first():
    assert VMCS12.names == common_names(VMCS12, VMCS)

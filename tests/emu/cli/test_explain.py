def test_a_rule_says_what_it_asks_where_it_stands_and_who_has_it(nestling):
    answer = nestling("explain", "size_covers_vmcb")

    assert 0 == answer.code
    assert "asks   SIZE is at least 0x1080" in answer.out
    assert "when   SIZE is at least 0x80" in answer.out
    assert "gives  EINVAL" in answer.out
    assert "svm_set_nested_state" in answer.out
    assert "Linux 5.8-7.3" in answer.out


def test_a_name_in_several_tables_is_told_for_each(nestling):
    tables = [rule["table"] for rule in nestling("explain", "flags_known", "--json").json]

    assert ["KVM_SET_NESTED_STATE on Intel", "KVM_SET_NESTED_STATE on AMD"] == tables


def test_json_has_every_part_of_a_rule(nestling):
    [rule] = nestling("explain", "record_within_maximum", "--json").json

    assert {
        "name": "record_within_maximum",
        "table": "receiving side",
        "kind": "check",
        "asks": "the record is not larger than the destination kernel's maximum",
        "when": [],
        "section": "policy `maximum`",
        "result": "E2BIG",
        "kernels": [],
    } == rule


def test_an_unknown_rule_is_refused_with_the_nearest_names(nestling):
    answer = nestling("explain", "flag_known")

    assert 2 == answer.code
    assert "no rule is named 'flag_known'; near: flags_known" in answer.complaint

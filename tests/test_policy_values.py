"""Values that a parameter of a built-in policy cannot have are refused by its name, with what it is."""

from dataclasses import fields

import pytest

from lmaas.analysis.errors import Exit, UserError
from lmaas.policies.registry import NUMBER, POLICIES, parse_policy


@pytest.mark.parametrize("name", POLICIES.builtin)
def test_every_number_is_a_number(name):
    for field in fields(POLICIES.load(name)):
        if field.type not in NUMBER:
            continue
        also = "" if name != "static" or field.name == "replicas" else "replicas=3, "  # which it cannot do without
        for value in ("nan", "inf", "true", "some", "'1'", *([] if field.default is None else ["None"])):
            with pytest.raises(UserError) as refused:
                parse_policy(f"{name}({also}{field.name}={value})")
            assert refused.value.code == Exit.USAGE
            said = str(refused.value)
            assert f"{field.name} is" in said
            assert any(what in said for what in ("; a number", "; a share", "; a whole number", "; a time")), said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sageserve-lt-u(high=nan)", "high is nan; a number, such as 0.7"),
        ("sageserve-lt-i(vm_cost=1e300)", "vm_cost is 1e.300; 0, or a number from 0.001 to 1,000,000"),
        ("sageserve-lt-i(start_cost=1e-9)", "start_cost is 1e-09; 0, or a number from 0.001 to 1,000,000"),
        ("sageserve-lt-i(batch_buffer=1000)", "batch_buffer is 1000; a share from 0 to 100"),
        ("chiron(group_s=0.1)", "group_s is 0.1; a time from 1 s"),
        ("preserve(router=-1)", "router is -1; a name, such as preserve"),
        ("preserve(tier2=1)", "tier2 is 1; true or false"),
        ("sageserve-reactive(control_s=1e-300)", "control_s is 1e-300; a time from 1 to 86,400 s"),
        ("sageserve-siloed(control_s=1000000)", "control_s is 1000000; a time from 1 to 86,400 s"),
    ],
)
def test_what_is_wrong_is_said_by_name(text, says):
    with pytest.raises(UserError, match=says):
        parse_policy(text)


def test_values_that_are_right_still_are():
    assert parse_policy("chiron(batch_size=None)").policy.batch_size is None
    assert parse_policy("hpa(target=8)").policy.target == 8
    assert parse_policy("sageserve-lt-i(lend=false, lengths=true)").policy.lend is False

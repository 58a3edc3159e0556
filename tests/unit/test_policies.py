"""The policies that come with the package: each parses, and says what its README says."""

import itertools
import json
from importlib import resources
from pathlib import Path

import pytest
from muniment.domain.commands import COMMANDS
from muniment.domain.errors import InvalidError
from muniment.domain.policy import Policy, parse

NAMES = ("solo", "team", "regulated")


def document(name: str) -> dict:
    text = resources.files("muniment.ops").joinpath("policies", f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)


def policy(name: str) -> Policy:
    return parse(document(name))


def test_exactly_these_are_shipped() -> None:
    folder = Path(__file__).parents[2] / "ops" / "policies"
    assert {f"{name}.json" for name in NAMES} == {file.name for file in folder.glob("*.json")}


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_is_whole_and_carries_its_file_name(name: str) -> None:
    parsed = policy(name)
    assert (name, 1) == (parsed.policy, parsed.version)
    assert document(name) == parsed.document
    assert parsed.build.required_gates == ["validate"]
    assert parsed.build.reproduce == "required"
    assert set(parsed.build.unwaivable_gates) <= set(parsed.build.required_gates)
    assert parsed.freeze.all_max_s <= 72 * 3600, "R8"
    assert parsed.risk_order == ["canary", "stable", "lts"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "section", ["approvals", "build", "verification", "attestation", "health", "rollback", "freeze"]
)
def test_a_missing_or_unknown_field_is_refused(name: str, section: str) -> None:
    whole = document(name)
    without = {key: value for key, value in whole.items() if key != section}
    with pytest.raises(InvalidError, match=section):
        parse(without)
    with pytest.raises(InvalidError, match="lenient"):
        parse(whole | {section: whole[section] | {"lenient": True}})


def test_solo_asks_no_second_person() -> None:
    solo = policy("solo")
    assert (
        solo.approvals.required,
        solo.verification.pack_signatures,
        solo.attestation.soak_s,
        solo.attestation.healthy_reports,
    ) == (0, 0, 0, 1)
    assert solo.commands_need_key == []
    assert solo.build.unwaivable_gates == []


def test_each_policy_is_at_least_as_strict_as_the_one_before() -> None:
    ladder = [policy(name) for name in NAMES]
    for looser, stricter in itertools.pairwise(ladder):
        assert stricter.approvals.required >= looser.approvals.required
        assert stricter.attestation.soak_s > looser.attestation.soak_s
        assert stricter.attestation.healthy_reports > looser.attestation.healthy_reports
        assert stricter.verification.pack_signatures >= looser.verification.pack_signatures
        assert set(stricter.commands_need_key) >= set(looser.commands_need_key)
        assert set(stricter.build.unwaivable_gates) >= set(looser.build.unwaivable_gates)
    assert len({one.digest for one in ladder}) == 3


@pytest.mark.parametrize("name", NAMES)
def test_commands_that_need_a_key_exist_and_lock_nobody_out(name: str) -> None:
    keyed = policy(name).commands_need_key
    assert sorted(set(keyed)) == keyed
    assert set() == set(keyed) - set(COMMANDS), "a misspelt command would be let through unsigned"
    # Nothing is bound in a new store: the first key could never be added.
    assert set() == {"init", "identity.add"} & set(keyed)


def test_regulated_leaves_the_stopping_direction_open() -> None:
    keyed = set(policy("regulated").commands_need_key)
    assert {"release.start", "rollback", "pack.unblock", "policy.publish", "build.waive"} <= keyed
    assert set() == keyed & {
        "pack.block",
        "channel.freeze",
        "channel.pin",
        "release.pause",
        "incident.declare",
    }

"""Rules between fields: each is broken by some object, kept by its neighbour, and tells what to do."""

from typing import Any

import pytest
from pydantic import ValidationError

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.resource import RULES_ERROR
from hybridroute_api.v1alpha1.rules import RULES, broken_rules, values_at
from support.routes import route_document, route_of
from support.rule_cases import RULE_CASES, second, slm


@pytest.mark.parametrize(("rule_id", "broken", "kept"), RULE_CASES, ids=[case[0] for case in RULE_CASES])
def test_rule_refuses_one_object_and_admits_its_neighbour(
    rule_id: str, broken: dict[str, Any], kept: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as caught:
        HybridRoute.model_validate(route_document(broken))
    [error] = caught.value.errors()
    assert error["type"] == RULES_ERROR
    assert [violation.rule_id for violation in error["ctx"]["violations"]] == [rule_id]
    assert broken_rules(route_of(kept)) == ()


def test_each_rule_has_a_case() -> None:
    assert {case[0] for case in RULE_CASES} == {rule.id for rule in RULES}
    assert len({rule.id for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_message_follows_the_field_name_and_tells_what_to_do(rule: Any) -> None:
    assert rule.message.split()[0] in {"is", "must", "has", "needs", "cannot", "compares"}
    assert any(mark in rule.message for mark in (": ", "must "))
    assert not rule.message.endswith(".")


def test_every_path_of_every_rule_leads_somewhere() -> None:
    document = route_document(
        second(credentials={"env": "KEY"}, headers={"x-team": "a"}, timeouts={"total": "30s"})
    )
    model = {"uri": "hf://org/model", "credentials": {"env": "HF_TOKEN"}}
    engine = {"engine": "vllm", "model": model, "engineArgs": {"seed": "1"}, "adapters": {"cards": "cards"}}
    document["spec"]["slm"] |= engine
    document["spec"]["routing"] = {"examples": {"local": ["balance"], "remote": ["poem"]}}
    document["spec"]["budget"] = {"limitUSD": "50"}
    document["spec"]["auth"] = {"apiKeysFile": "clients.yaml"}
    document["spec"]["llm"]["upstreams"][1]["caBundleRef"] = {"secretName": "ca"}
    by_examples = HybridRoute.model_validate(document)
    document["spec"]["routing"] = {"policy": {"file": "p"}, "drift": {}}
    by_policy = HybridRoute.model_validate(document)
    for rule in RULES:
        for path in rule.paths:
            found = [*values_at(by_examples, path), *values_at(by_policy, path)]
            assert found, f"{rule.id}: {path}"


def test_several_broken_rules_are_told_at_once_with_their_places() -> None:
    changes = slm(scaling={"minReplicas": 2}, timeouts={"firstByte": "3m"})
    with pytest.raises(ValidationError) as caught:
        HybridRoute.model_validate(route_document(changes))
    violations = caught.value.errors()[0]["ctx"]["violations"]
    assert [violation.location for violation in violations] == [
        ("spec", "slm", "scaling", "maxReplicas"),
        ("spec", "slm", "timeouts", "firstByte"),
    ]

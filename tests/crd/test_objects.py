"""What the API server admits and refuses, in its own words, for the same objects that test the models."""

from typing import Any

import pytest

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.rules import RULES
from support.api_server import ApiServer
from support.crd_cases import ADMITTED_ALL, MESSAGES, REFUSED_ALL, create
from support.object_cases import ADMITTED
from support.routes import merged, route_document

MODELS_ALONE = {rule.id for rule in RULES if not rule.cel}


def expected_messages() -> dict[str, str]:
    lines = MESSAGES.read_text().splitlines()
    return dict(line.split(" => ", 1) for line in lines)


@pytest.mark.parametrize(("name", "changes"), REFUSED_ALL, ids=[case[0] for case in REFUSED_ALL])
def test_is_refused_with_this_text(cluster: ApiServer, name: str, changes: dict[str, Any]) -> None:
    status, answer = create(cluster, route_document(changes))
    assert status in (400, 422)
    assert answer["message"] == expected_messages()[name]


@pytest.mark.parametrize(("name", "changes"), ADMITTED_ALL, ids=[case[0] for case in ADMITTED_ALL])
def test_is_admitted(cluster: ApiServer, name: str, changes: dict[str, Any]) -> None:
    status, answer = create(cluster, route_document(changes))
    assert status == 201, answer["message"]


@pytest.mark.parametrize("changes", [case[1] for case in ADMITTED], ids=[case[0] for case in ADMITTED])
def test_defaults_are_the_models(cluster: ApiServer, changes: dict[str, Any]) -> None:
    document = route_document(changes)
    _, stored = create(cluster, document)
    ours = HybridRoute.model_validate(document).spec
    theirs = HybridRoute.model_validate(merged(document, {"spec": stored["spec"]})).spec
    assert theirs == ours


def test_the_file_of_messages_is_about_these_objects() -> None:
    assert set(expected_messages()) == {name for name, _ in REFUSED_ALL}


def test_each_rule_speaks_through_the_api_server() -> None:
    messages = "\n".join(expected_messages().values())
    assert not [rule.id for rule in RULES if rule.cel and rule.message not in messages]
    assert {"examples-distinct"} == MODELS_ALONE

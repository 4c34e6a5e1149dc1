"""Objects at the edges of each field's type: the models refuse and admit what the API server does."""

from typing import Any

import pytest
from pydantic import ValidationError

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.resource import RULES_ERROR
from support.object_cases import ADMITTED, REFUSED
from support.routes import route_document


@pytest.mark.parametrize("changes", [case[1] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_is_refused_for_one_reason(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        HybridRoute.model_validate(route_document(changes))
    # pydantic counts a list's valid items alone, so that a wrong only item makes the list too short besides
    [error] = [e for e in caught.value.errors() if e["type"] != "too_short" or not e["input"]]
    assert error["type"] != RULES_ERROR


@pytest.mark.parametrize("changes", [case[1] for case in ADMITTED], ids=[case[0] for case in ADMITTED])
def test_is_admitted(changes: dict[str, Any]) -> None:
    assert HybridRoute.model_validate(route_document(changes)).metadata.name

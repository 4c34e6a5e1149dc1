"""The object as a whole: names, what is refused and what passes through, and the way to JSON and back."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from hybridroute_api.v1alpha1 import HybridRoute, HybridRouteStatus
from hybridroute_api.v1alpha1.status import Condition
from support.routes import route_document, route_of


@pytest.mark.parametrize("name", ["a", "a-b", "support2", "a" * 39])
def test_good_names(name: str) -> None:
    assert route_of({"metadata": {"name": name}}).metadata.name == name


@pytest.mark.parametrize("name", ["", "A", "2a", "a-", "-a", "a_b", "a.b", "a" * 40, "ä", "a\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(ValidationError):
        route_of({"metadata": {"name": name}})


def test_metadata_of_other_tools_passes_through() -> None:
    route = route_of({"metadata": {"uid": "1", "managedFields": [{"manager": "kubectl"}], "generation": 3}})
    assert route.model_dump(by_alias=True)["metadata"]["managedFields"] == [{"manager": "kubectl"}]


@pytest.mark.parametrize(
    "changes", [{"spec": {"slm": {"context_tokens": 4096}}}, {"extra": 1}, {"spec": {"x": 1}}]
)
def test_unknown_fields_and_python_names_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HybridRoute.model_validate(route_document(changes))


def test_cannot_be_changed() -> None:
    route = route_of()
    with pytest.raises(ValidationError, match="frozen"):
        route.spec.limits.max_body_mib = 1  # type: ignore[misc]


@pytest.mark.parametrize("exclude_unset", [True, False])
def test_survives_json(exclude_unset: bool) -> None:
    route = route_of(
        {
            "spec": {
                "slm": {"timeouts": {"firstByte": "1500ms"}, "pricing": {"machineHourUSD": "0.000000001"}},
                "routing": {"confidence": {"threshold": "0.820"}, "examples": {"local": ["balance"]}},
            }
        }
    )
    text = route.model_dump_json(by_alias=True, exclude_unset=exclude_unset)
    assert HybridRoute.model_validate_json(text) == route
    assert '"machineHourUSD":"0.000000001"' in text
    assert '"firstByte":"1s500ms"' in text
    assert '"threshold":"0.820"' in text


def test_a_route_without_examples_survives_json_with_its_defaults_written_out() -> None:
    route = route_of()
    assert HybridRoute.model_validate_json(route.model_dump_json(by_alias=True)) == route


def test_status_of_a_newer_program_is_read() -> None:
    status = HybridRouteStatus.model_validate({"url": "http://localhost:8000/v1", "later": True})
    assert status.url == "http://localhost:8000/v1"


def test_condition_has_the_shape_that_kubernetes_tools_read() -> None:
    condition = Condition.model_validate(
        {
            "type": "Ready",
            "status": "True",
            "reason": "Serving",
            "lastTransitionTime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        }
    )
    assert condition.model_dump(mode="json", by_alias=True) == {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
        "observedGeneration": 0,
    }

"""The spec that was accepted last: what is kept of it says the same again, whatever its fields."""

import hashlib
from typing import Any

import pytest

from hybridroute_operator.accepted import parse_accepted
from hybridroute_render.kubernetes.kinds import ObjectKey, key_of
from hybridroute_render.kubernetes.objects import render_objects
from hybridroute_render.kubernetes.problems import cluster_problems
from support.golden import CLUSTER, golden_names, read_golden_route
from support.object_cases import ADMITTED
from support.routes import merged, route_document, route_of
from support.transitions import VALID

META = {"metadata": {"namespace": "shop", "uid": "u1", "generation": 7}}
ACCEPTED = ObjectKey("ConfigMap", "support-accepted")
CHANGES = [
    changes
    for changes in (*VALID, *(changes for _, changes in ADMITTED))
    if "metadata" not in changes and not cluster_problems(route_of(changes))
]


def kept_of(changes: dict[str, Any]) -> dict[str, Any]:
    objects = render_objects(route_of(merged(changes, META)), CLUSTER)
    return next(manifest for manifest in objects if key_of(manifest) == ACCEPTED)


@pytest.mark.parametrize("changes", CHANGES, ids=[str(changes)[:60] for changes in CHANGES])
def test_what_is_kept_says_the_same_again(changes: dict[str, Any]) -> None:
    broken = route_document(merged({"spec": {"mode": "no mode"}}, META))
    route = parse_accepted(broken, kept_of(changes))
    assert route is not None
    assert route.spec == route_of(changes).spec
    assert route.metadata.generation == 7
    again = next(m for m in render_objects(route, CLUSTER) if key_of(m) == ACCEPTED)
    assert again == kept_of(changes)


@pytest.mark.parametrize("name", golden_names())
def test_every_field_of_the_golden_routes_is_kept(name: str) -> None:
    route = read_golden_route(name)
    document = {
        "apiVersion": route.api_version,
        "kind": route.kind,
        "metadata": route.metadata.model_dump(by_alias=True) | {"uid": "u1"},
    }
    owned = route.model_copy(update={"metadata": route.metadata.model_copy(update={"uid": "u1"})})
    kept = next(m for m in render_objects(owned, CLUSTER) if m["metadata"]["name"].endswith("-accepted"))
    parsed = parse_accepted(document, kept)
    assert parsed is not None
    assert parsed.spec == route.spec


def test_nobody_knows_without_it() -> None:
    assert parse_accepted(route_document(META), None) is None


def test_a_spec_of_another_version_is_not_followed() -> None:

    kept = kept_of({})
    text = kept["data"]["spec.json"].replace('"llm"', '"llms"', 1)
    kept["data"] = {"spec.json": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    assert parse_accepted(route_document(META), kept) is None

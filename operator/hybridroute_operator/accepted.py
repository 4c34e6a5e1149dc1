"""The spec that was accepted last, kept beside what is made of it. Pure.

A route whose spec is refused goes on serving what it served before, and that is still repaired: the spec it was made of
is in a ConfigMap of the route. What was edited there by somebody else is told by its digest, and not followed.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_render.kubernetes.objects import ACCEPTED_DIGEST, ACCEPTED_SPEC
from hybridroute_render.kubernetes.problems import cluster_problems

__all__ = ["parse_accepted"]


def parse_accepted(document: Mapping[str, Any], accepted: Mapping[str, Any] | None) -> HybridRoute | None:
    """Return the route as it was accepted last, under the metadata that it has now; None if nobody knows.

    `accepted`: the ConfigMap under the route's name for it. One that an earlier route of the name left behind says
    nothing about this one.
    """
    if accepted is None or not _belongs(accepted, document):
        return None
    data = accepted.get("data") or {}
    text = str(data.get(ACCEPTED_SPEC, ""))
    if hashlib.sha256(text.encode()).hexdigest() != data.get(ACCEPTED_DIGEST):
        return None
    try:
        kept = {key: document[key] for key in ("apiVersion", "kind", "metadata")}
        route = HybridRoute.model_validate(kept | {"spec": json.loads(text)})
    except (ValidationError, ValueError):
        return None  # written by another version
    return None if cluster_problems(route) else route


def _belongs(accepted: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    owners = {owner.get("uid") for owner in accepted["metadata"].get("ownerReferences") or ()}
    return document["metadata"].get("uid") in owners

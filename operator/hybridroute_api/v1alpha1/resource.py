"""The object itself: `apiVersion`, `kind`, `metadata`, `spec` and `status`."""

from typing import Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from hybridroute_api.v1alpha1.model import ApiModel, DnsName, SpecModel
from hybridroute_api.v1alpha1.rules import broken_rules
from hybridroute_api.v1alpha1.spec import HybridRouteSpec
from hybridroute_api.v1alpha1.status import HybridRouteStatus

__all__ = ["API_VERSION", "KIND", "RULES_ERROR", "HybridRoute", "ObjectMeta"]

API_VERSION: Final = "hybridroute.dev/v1alpha1"
KIND: Final = "HybridRoute"
RULES_ERROR: Final = "hybridroute_rules"
"""Type of the validation error of an object that breaks rules; its context holds them under `violations`."""


class ObjectMeta(ApiModel):
    """Metadata as Kubernetes keeps it. Fields that are not used here pass through."""

    model_config = ConfigDict(extra="allow")

    name: DnsName
    """Name of the route: lower-case letters, digits and '-', starting with a letter, 1 to 39 characters, so
    that names derived from it stay within 63. Required.
    """
    namespace: str | None = None
    """Namespace of the route in a cluster. Default none, on one machine."""
    uid: str | None = None
    """Identity that the API server gave the object. Default none, before it is created."""
    generation: int = 0
    """How often the API server saw the spec change, from 1. Default 0, before the object is created."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels for selection. Default none."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Notes of other tools. Default none."""


class HybridRoute(SpecModel):
    """A hybrid LLM service: a router, a small language model and a proxy to a remote LLM."""

    api_version: Literal["hybridroute.dev/v1alpha1"]
    """Version of the object's schema: `hybridroute.dev/v1alpha1`. Required."""
    kind: Literal["HybridRoute"]
    """Kind of the object: `HybridRoute`. Required."""
    metadata: ObjectMeta
    """Name and what other tools keep. Required."""
    spec: HybridRouteSpec
    """What is asked for. Required."""
    status: HybridRouteStatus | None = None
    """What is observed, written by the controller alone. Default none: not observed yet."""

    @model_validator(mode="after")
    def _obey_rules(self) -> Self:
        violations = broken_rules(self)
        if violations:
            text = "; ".join(f"{'.'.join(map(str, v.location))} {v.message}" for v in violations)
            raise PydanticCustomError(RULES_ERROR, "{text}", {"text": text, "violations": violations})
        return self

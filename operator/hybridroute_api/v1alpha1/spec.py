"""`spec`: what a person asks of a HybridRoute. A field enters here when it bites, and not before."""

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from hybridroute_api.quantities import Duration
from hybridroute_api.v1alpha1.auth import Auth
from hybridroute_api.v1alpha1.budget import Budget
from hybridroute_api.v1alpha1.llm import Llm
from hybridroute_api.v1alpha1.model import CLUSTER_ONLY, Count, Flag, ImageName, ObjectName, SpecModel
from hybridroute_api.v1alpha1.routing import Routing
from hybridroute_api.v1alpha1.slm import Slm
from hybridroute_api.vocabulary import Mode, ShadowServe

__all__ = ["HybridRouteSpec", "Limits", "Pods", "Records", "Topology"]


class Records(SpecModel):
    """How long decision and cost records are kept."""

    max_age: Duration = Field(default=timedelta(hours=168), ge=timedelta(hours=1), le=timedelta(hours=17_520))
    """Records older than this are deleted. Range 1h to 17520h (two years); default 168h, a week, so that the
    last incident can be explained.
    """
    max_size_mib: Count = Field(default=512, alias="maxSizeMiB", ge=16, le=102_400)
    """Size of the records' file in MiB, past which the oldest are deleted. Range 16 to 102400; default 512,
    about half a million requests at 1 KiB each.
    """
    claim_name: ObjectName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """PersistentVolumeClaim in the route's namespace that the keeper writes to, 1 to 253 characters. Default none: the
    records live as long as the keeper's pod.
    """
    prompt_text: Flag = False
    """True stores the routing text of each request with its record. Default false, because prompts hold
    personal data.
    """


class Limits(SpecModel):
    """What a client may send."""

    max_body_mib: Count = Field(default=16, alias="maxBodyMiB", ge=1, le=256)
    """Largest request body in MiB; a larger one gets 413. Range 1 to 256; default 16, which holds a few
    images or a very long conversation.
    """


class Topology(StrEnum):
    """How many pods carry a route in a cluster."""

    SMALL = "Small"
    """Ray's head pods serve too: two pods in all, and a lost head interrupts its part."""
    HA = "HA"
    """Heads are kept empty and the gateway has two workers or more: a lost worker interrupts what it served alone."""


class Pods(SpecModel):
    """What all pods of the route have in common, in a cluster."""

    image: ImageName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """Image with Ray and the applications, 1 to 512 characters. Default the operator's own, which matches it."""
    image_pull_secrets: tuple[ObjectName, ...] = Field(
        default=(), max_length=8, json_schema_extra=CLUSTER_ONLY
    )
    """Secrets with the registry's credentials, at most 8. Default none, for a registry that needs none."""
    priority_class_name: ObjectName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """PriorityClass of the pods, 1 to 253 characters. Default none, the cluster's own default."""


class HybridRouteSpec(SpecModel):
    """What is asked for."""

    mode: Mode = Mode.HYBRID
    """Hybrid asks the gates; LocalOnly and LLMOnly force a path and serve as kill switches; Shadow asks the gates and
    records what they say, while the path of `shadowServe` serves. Default Hybrid, the purpose of the object.
    """
    shadow_serve: ShadowServe | None = None
    """Which path serves in mode Shadow, SLM or LLM; what the SLM cannot serve goes to the LLM. Default LLM, as before
    there was an SLM.
    """
    slm: Slm
    """The small language model. Required."""
    llm: Llm
    """The path to remote LLMs. Required, because it serves whatever the SLM is not trusted with."""
    routing: Routing = Routing()
    """How the router decides. Default: no examples, so the LLM serves everything."""
    budget: Budget | None = None
    """Dollars for the LLM path. Default none: the path is not budgeted."""
    auth: Auth | None = None
    """Who may ask. Default none: everybody who reaches the endpoint."""
    records: Records = Records()
    """How long records are kept. Default: a week, 512 MiB, no prompts."""
    limits: Limits = Limits()
    """What a client may send. Default: bodies to 16 MiB."""
    topology: Topology = Field(default=Topology.SMALL, json_schema_extra=CLUSTER_ONLY)
    """How many pods carry the route: Small (heads serve too) or HA (heads empty, several workers). Default Small, two
    pods.
    """
    pods: Pods = Pods()
    """What all pods of the route have in common. Default: the operator's image."""

"""`status`: what is observed of a HybridRoute. One writer; a person never writes it.

Unknown fields are ignored, so that an older program reads what a newer one has written.
"""

from datetime import datetime
from decimal import Decimal

from pydantic import ConfigDict, Field

from hybridroute_api.quantities import DecimalString, NanoUsd
from hybridroute_api.v1alpha1.conditions import ConditionStatus, ConditionType
from hybridroute_api.v1alpha1.model import ApiModel
from hybridroute_api.vocabulary import Mode

__all__ = [
    "Condition",
    "HybridRouteStatus",
    "PathStatus",
    "PathsStatus",
    "ScalingDecision",
    "StatusBudget",
    "StatusCost",
]


class StatusModel(ApiModel):
    """Base of what is observed."""

    model_config = ConfigDict(extra="ignore", validate_by_name=True, validate_by_alias=True)


class Condition(StatusModel):
    """One condition, in the shape that Kubernetes tools read."""

    type: ConditionType
    """What the condition speaks of, such as Ready."""
    status: ConditionStatus
    """True, False or Unknown. True is good for all but Degraded."""
    reason: str = Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    """One word for programs, 1 to 1024 characters."""
    message: str = Field(default="", max_length=32_768)
    """A sentence for people, at most 32768 characters. Default empty, where the reason says it all."""
    last_transition_time: datetime
    """When the status last changed, in UTC."""
    observed_generation: int = Field(default=0, ge=0)
    """Generation of the object that the verdict is about, from 0. Default 0: the object has no generations.
    """


class PathStatus(StatusModel):
    """Replicas of one part."""

    ready_replicas: int = Field(default=0, ge=0)
    """Replicas that answer, from 0. Default 0: none seen."""
    replicas: int = Field(default=0, ge=0)
    """Replicas that exist, starting ones included, from 0. Default 0: none seen."""


class PathsStatus(StatusModel):
    """Replicas of each part."""

    router: PathStatus = PathStatus()
    """The router. Default: none seen."""
    slm: PathStatus = PathStatus()
    """The small language model. Default: none seen."""
    llm: PathStatus = PathStatus()
    """The proxy to the remote LLM. Default: none seen."""


class ScalingDecision(StatusModel):
    """A change of a part's replicas."""

    at: datetime
    """When it was seen, in UTC; at most half a minute late. Required."""
    part: str = Field(min_length=1, max_length=16)
    """What was scaled: router, slm or llm. Required, 1 to 16 characters."""
    before: int = Field(ge=0)
    """Replicas that answered before, from 0. Required."""
    after: int = Field(ge=0)
    """Replicas that answer since, from 0. Required."""
    reason: str = Field(max_length=1024)
    """Why, in words, at most 1024 characters. Required."""


class StatusCost(StatusModel):
    """Dollars since the keeper's records began, also of those that have been deleted since."""

    slm_nano_usd: NanoUsd = Field(default=0, alias="slmUSD", ge=0)
    """Dollars for the SLM's busy time, from "0". Default "0": nothing recorded."""
    slm_idle_nano_usd: NanoUsd = Field(default=0, alias="slmIdleUSD", ge=0)
    """Dollars for the SLM's idle time, from "0". Default "0": nothing recorded."""
    llm_nano_usd: NanoUsd = Field(default=0, alias="llmUSD", ge=0)
    """Dollars for the LLM path, from "0". Default "0": nothing recorded."""
    total_nano_usd: NanoUsd = Field(default=0, alias="totalUSD", ge=0)
    """Dollars for both paths and idle time together, from "0". Default "0": nothing recorded."""
    saved_usd: DecimalString = Field(default=Decimal(0), alias="savedUSD")
    """What all-LLM would have cost beyond that; negative when the SLM costs more than it saves. Default "0":
    nothing recorded.
    """
    all_llm_nano_usd: NanoUsd = Field(default=0, alias="allLLMUSD", ge=0)
    """What the same requests would have cost at the primary's list price, from "0". Default "0": nothing
    recorded.
    """


class StatusBudget(StatusModel):
    """The dollar budget in its current window."""

    limit_nano_usd: NanoUsd = Field(alias="limitUSD", ge=0)
    """Dollars per window, from "0". Required."""
    spent_nano_usd: NanoUsd = Field(alias="spentUSD", ge=0)
    """Dollars that count as spent in this window, from "0". Required."""
    reserved_nano_usd: NanoUsd = Field(alias="reservedUSD", ge=0)
    """Dollars that requests under way and replicas hold, from "0". Required."""
    resets_at: datetime | None = None
    """When money comes back, in UTC. Default none: nothing is spent."""


class HybridRouteStatus(StatusModel):
    """What is observed."""

    observed_generation: int = Field(default=0, ge=0)
    """Generation of the object that this status is about, from 0. Default 0: the object has no generations.
    """
    url: str | None = Field(default=None, max_length=2048)
    """Base address for OpenAI clients, at most 2048 characters. Default none: not served yet."""
    mode: Mode | None = None
    """The mode that the replicas follow. Default none: not served yet."""
    policy_version: str = Field(default="", max_length=64)
    """Digest of the live policy that the replicas follow, at most 64 characters. Default empty: not served
    yet.
    """
    policy_digest: str = Field(default="", max_length=64)
    """Digest of the calibrated policy in force, as in every decision record, at most 64 characters. Default empty: none
    is.
    """
    conditions: tuple[Condition, ...] = Field(default=(), max_length=16)
    """Verdicts, at most one a type. Default none: not observed yet."""
    paths: PathsStatus = PathsStatus()
    """Replicas of each part. Default: none seen."""
    scaling: tuple[ScalingDecision, ...] = Field(default=(), max_length=5)
    """The last changes of replicas, the newest first, at most 5. Default none: none seen."""
    slm_percent: int | None = Field(default=None, ge=0, le=100)
    """Share of the requests since the keeper's records began that the SLM served, in percent, 0 to 100. Default none:
    no request yet.
    """
    spent_nano_usd: NanoUsd | None = Field(default=None, alias="spentUSD", ge=0)
    """Dollars spent in the budget's window, or, without a budget, since the keeper's records began, from "0". Default
    none: not observed yet.
    """
    budget: StatusBudget | None = None
    """The dollar budget. Default none: the route has none, or it was not observed yet."""
    cost: StatusCost = StatusCost()
    """Dollars since the keeper's records began. Default: nothing recorded."""

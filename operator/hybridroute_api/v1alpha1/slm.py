"""`spec.slm`: the small language model, its engine, limits, price and replicas."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from hybridroute_api.quantities import Duration, NanoUsd
from hybridroute_api.v1alpha1.model import (
    CLUSTER_ONLY,
    CPU_PATTERN,
    MEMORY_PATTERN,
    Count,
    EnvName,
    Flag,
    ImageName,
    LabelValue,
    ObjectName,
    SecretKey,
    SpecModel,
    Text,
)
from hybridroute_api.v1alpha1.scaling import SlmScaling

__all__ = [
    "BUNDLED_MODELS",
    "TOOL_PARSER_ARGUMENT",
    "Engine",
    "HubCredentials",
    "Rollout",
    "Slm",
    "SlmCapabilities",
    "SlmModel",
    "SlmPricing",
    "SlmResources",
    "SlmTimeouts",
    "Toleration",
    "TolerationEffect",
    "TolerationOperator",
]

BUNDLED_MODELS: Final = ("bundled:smollm2-135m",)
"""Models that come with a package and need no download."""

TOOL_PARSER_ARGUMENT: Final = "tool-call-parser"
"""vLLM's argument that says how the model writes tool calls; without it the model cannot choose among tools."""

_ArgumentValue = Annotated[str, Field(min_length=1, max_length=4096)]
_ModelUri = Annotated[str, Field(min_length=1, max_length=1024)]


class Engine(StrEnum):
    """What runs the small language model."""

    LLAMACPP = "llamacpp"
    VLLM = "vllm"


class Rollout(StrEnum):
    """How a change of the SLM's pods is rolled out."""

    RECREATE = "Recreate"
    """Stop the old pods, then start the new; the LLM carries the traffic meanwhile."""
    SURGE = "Surge"
    """Start the new pods beside the old; needs twice the GPUs for a while."""


class HubCredentials(SpecModel):
    """Where the model hub's access token is: on one machine `env`, in a cluster `secretName`; an object for both has
    one of each.
    """

    env: EnvName | None = None
    """Environment variable that holds the token, on one machine. A name of 1 to 128 characters; default none."""
    secret_name: ObjectName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """Secret in the route's namespace that holds the token, in a cluster. A name of 1 to 253 characters; default none.
    """
    key: SecretKey = Field(default="token", json_schema_extra=CLUSTER_ONLY)
    """Which of the Secret's entries is the token, 1 to 253 characters. Default token."""


class SlmModel(SpecModel):
    """Which weights the engine loads."""

    uri: Text = Field(max_length=1024)
    """With llamacpp `bundled:smollm2-135m` or a GGUF file, with vllm `hf://<organisation>/<model>[@<revision>]` or a
    folder in Hugging Face's layout; files and folders by a path, absolute or relative to the route's file, or by
    `pvc://<claim>/<path>` in a cluster. Required, 1 to 1024 characters: the model decides what may stay on the SLM,
    so there is no default.
    """
    credentials: HubCredentials | None = None
    """Where the hub's access token is, for `hf://` models that are not public. Engine vllm alone; default none."""


class SlmCapabilities(SpecModel):
    """What the model may be asked for. A request that needs more is escalated by the capability gate."""

    tools: Flag = False
    """True: requests that offer tools may stay on the SLM. Default false, because small models call tools
    unreliably.
    """
    json_schema: Flag = True
    """True: requests that ask for a JSON schema may stay on the SLM. Default true, because the engine
    enforces the schema while it generates.
    """


class TolerationOperator(StrEnum):
    """How a toleration compares with a taint."""

    EQUAL = "Equal"
    EXISTS = "Exists"


class TolerationEffect(StrEnum):
    """Which effect of a taint is tolerated."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(SpecModel):
    """A taint that the SLM's pods tolerate, as in a pod."""

    key: str = Field(default="", max_length=317)
    """The taint's key, at most 317 characters. Default empty, which with operator Exists means every taint.
    """
    operator: TolerationOperator = TolerationOperator.EQUAL
    """Equal compares `value`, Exists does not. Default Equal, as in a pod."""
    value: str = Field(default="", max_length=63)
    """The taint's value, at most 63 characters. Default empty, as in a pod."""
    effect: TolerationEffect | None = None
    """NoSchedule, PreferNoSchedule or NoExecute. Default none, which matches every effect."""


class SlmResources(SpecModel):
    """What a replica's pod asks of a cluster. On one machine only `gpus` means something: `up` lists the rest."""

    gpus: Count = Field(default=0, ge=0, le=16)
    """GPUs of one replica, over which vllm splits the model. Range 0 to 16; default 0, because llama.cpp runs on CPU.
    """
    cpu: str = Field(
        default="2",
        pattern=CPU_PATTERN,
        json_schema_extra=CLUSTER_ONLY,
    )
    """CPU cores of one replica, `"2"` or `500m`. Range 1m to 999; default 2, enough for the bundled model.
    """
    memory: str = Field(default="2Gi", pattern=MEMORY_PATTERN, json_schema_extra=CLUSTER_ONLY)
    """Memory of one replica with its unit, Mi, Gi or Ti. Range 1Mi to 999999Ti; default 2Gi, enough for the
    bundled model.
    """
    node_selector: dict[str, LabelValue] = Field(
        default_factory=dict, max_length=32, json_schema_extra=CLUSTER_ONLY
    )
    """Labels that a node must have, at most 32, with values of at most 63 characters. Default none, so that any
    node will do.
    """
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32, json_schema_extra=CLUSTER_ONLY)
    """Taints that the pods tolerate, at most 32. Default none, as in a pod."""
    priority_class_name: ObjectName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """PriorityClass of the SLM's pods, 1 to 253 characters. Default that of `spec.pods`."""
    runtime_class_name: ObjectName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """RuntimeClass of the SLM's pods, such as nvidia, 1 to 253 characters. Default none, the node's own."""


class SlmPricing(SpecModel):
    """What the SLM costs while a replica lives, busy or idle."""

    machine_hour_nano_usd: NanoUsd = Field(alias="machineHourUSD", ge=0, le=10**6 * 10**9)
    """Dollars for one replica's hour on its machine, without GPUs. Range "0" to "1000000"; required, because
    an unknown price is not a price of zero.
    """
    gpu_hour_nano_usd: NanoUsd = Field(default=0, alias="gpuHourUSD", ge=0, le=10**6 * 10**9)
    """Dollars for one GPU's hour; a replica pays it `resources.gpus` times. Range "0" to "1000000"; default
    "0", and required once `resources.gpus` is set.
    """


class SlmTimeouts(SpecModel):
    """Deadlines of one request on the SLM."""

    first_byte: Duration = Field(
        default=timedelta(seconds=20), ge=timedelta(milliseconds=100), le=timedelta(minutes=10)
    )
    """Until the first content, waiting in the engine's queue included; past it the LLM serves. Range 100ms to
    10m; default 20s, as for a remote provider, so that neither path is waited for longer.
    """
    total: Duration = Field(default=timedelta(minutes=2), ge=timedelta(seconds=1), le=timedelta(hours=1))
    """Until the end of the answer. Range 1s to 1h, at least `firstByte`; default 2m, a 4096-token answer at
    35 tokens/s.
    """


class Slm(SpecModel):
    """The small language model that serves what it can be trusted with."""

    engine: Engine = Engine.LLAMACPP
    """What runs the model: `llamacpp`, which is the default because it needs no GPU, or `vllm`."""
    model: SlmModel
    """Which weights the engine loads. Required."""
    engine_args: dict[str, _ArgumentValue] = Field(default_factory=dict, max_length=64)
    """Further arguments of `vllm serve` by name without dashes, such as `gpu-memory-utilization: "0.85"`; flags are
    "true" or "false". At most 64, values of 1 to 4096 characters. Engine vllm alone; default none, vLLM's own values.
    """
    adapters: dict[str, _ModelUri] = Field(default_factory=dict, max_length=32)
    """LoRA adapters, name to URI as for the model. A client asks for one by its name as `model`, which forces the SLM.
    At most 32. Engine vllm alone; default none.
    """
    image: ImageName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """Image of the SLM's pods, 1 to 512 characters, such as one with the model's file inside. Default that of
    `spec.pods`.
    """
    rollout: Rollout = Field(default=Rollout.RECREATE, json_schema_extra=CLUSTER_ONLY)
    """How a change of image or resources is rolled out: Recreate (the LLM carries meanwhile) or Surge (old and new at
    once). Default Recreate, since spare GPUs are rare.
    """
    context_tokens: Count = Field(default=4096, ge=256, le=1_048_576)
    """Tokens of prompt and answer together in one request; longer requests are escalated. Range 256 to
    1048576; default 4096, because memory grows with this times `parallelSequences`.
    """
    parallel_sequences: Count = Field(default=4, ge=1, le=256)
    """Requests that one replica generates at once in a batch; more wait in its queue. Range 1 to 256; default
    4, a batch for a machine of few cores.
    """
    capabilities: SlmCapabilities = SlmCapabilities()
    """What the model may be asked for. Default: JSON schemas, no tools."""
    resources: SlmResources = SlmResources()
    """What a replica asks of a cluster or machine. Default: two cores, 2Gi, no GPU."""
    pricing: SlmPricing
    """What a replica costs while it lives. Required, since every cost report rests on it."""
    timeouts: SlmTimeouts = SlmTimeouts()
    """Deadlines of one request on the SLM. Default: 20s to the first content, 2m in all."""
    scaling: SlmScaling = SlmScaling()
    """How many replicas. Default: one."""

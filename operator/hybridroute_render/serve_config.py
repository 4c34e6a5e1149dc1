"""HybridRoute → Ray Serve applications. Pure and deterministic: the same object gives the same bytes.

Used by `hybridroute up` on one machine and, with another `Placement`, by the operator for `serveConfigV2`. Nothing
that changes while replicas run is in here (that is the live policy): a changed byte means a redeployment.
"""

from typing import Any

from hybridroute_api.model_uris import model_name, parse_claim
from hybridroute_api.serving import (
    LONGEST_REQUEST_SECONDS,
    KeeperArgs,
    LlmProxyArgs,
    RouterArgs,
    SlmArgs,
    StandInArgs,
)
from hybridroute_api.v1alpha1.resource import HybridRoute
from hybridroute_api.v1alpha1.scaling import Scaling
from hybridroute_render.placement import Placement

__all__ = [
    "CPU_APP_CPUS",
    "KEEPER_APP",
    "LLM_APP",
    "ROUTER_APP",
    "SLM_APP",
    "STAND_IN_APP",
    "STAND_IN_PREFIX",
    "render_gateway_applications",
    "render_slm_application",
    "render_stand_in_application",
]

ROUTER_APP = "router"
LLM_APP = "llm-proxy"
SLM_APP = "slm"
KEEPER_APP = "keeper"
STAND_IN_APP = "stand-in"

_PREFIXES = {
    ROUTER_APP: "/",
    LLM_APP: "/llm",
    SLM_APP: "/slm",
    KEEPER_APP: "/keeper",
    STAND_IN_APP: "/stand-in",
}
STAND_IN_PREFIX = _PREFIXES[STAND_IN_APP]

_ONGOING_PER_TARGET = 10
"""Serve does not count requests that wait above `max_ongoing_requests`, and autoscaling goes blind."""

CPU_APP_CPUS = 0.25
"""Logical CPUs of a router, llm-proxy or keeper replica: they wait for others most of the time."""

_LOGGING = {"log_level": "WARNING", "enable_access_log": False}
"""Of Serve's own lines. It writes one a request and hop, at INFO; the keeper's records say more, once. The filter alone
would let each line be made and then throw it away.
"""

_KEEPER_CHECK_SECONDS = 2.0
"""Three failures in a row replace a keeper whose gateway has been replaced; Serve's 10 s would let clients wait."""

_AUTOSCALING_INTERVAL_SECONDS = 1.0
_AUTOSCALING_LOOK_BACK_SECONDS = 4.0


def render_gateway_applications(route: HybridRoute, placement: Placement) -> list[dict[str, Any]]:
    """Router, llm-proxy and keeper."""
    name = route.metadata.name
    common = {"route": name, "token_file": placement.token_file}
    router = RouterArgs(
        **common,
        keeper_url=placement.gateway_url + _PREFIXES[KEEPER_APP],
        slm_url=placement.slm_ingress_url + _PREFIXES[SLM_APP],
        llm_url=placement.gateway_url + _PREFIXES[LLM_APP],
        slm_backend_metrics_url=placement.slm_haproxy_metrics_url,
        slm_backend=f"http-{SLM_APP}",
        llm_backend_metrics_url=placement.gateway_haproxy_metrics_url,
        llm_backend=f"http-{LLM_APP}",
        router_backend=f"http-{ROUTER_APP}",
        journal_dir=placement.journal_dir,
    )
    llm_proxy = LlmProxyArgs(
        **common, keeper_url=placement.gateway_url + _PREFIXES[KEEPER_APP], journal_dir=placement.journal_dir
    )
    service = placement.gateway_service_url
    keeper = KeeperArgs(
        **common,
        metrics_token_file=placement.metrics_token_file,
        state_dir=placement.state_dir,
        live_file=placement.live_file,
        live_config_map=placement.live_config_map,
        ledger_config_map=placement.ledger_config_map,
        service_url=None if service is None else service + _PREFIXES[KEEPER_APP],
    )
    return [
        _application(
            ROUTER_APP, router.model_dump(mode="json"), _scaled(route.spec.routing.scaling, surge=True)
        ),
        _application(LLM_APP, llm_proxy.model_dump(mode="json"), _scaled(route.spec.llm.scaling, surge=True)),
        _application(
            KEEPER_APP,
            keeper.model_dump(mode="json"),
            _single() | {"health_check_period_s": _KEEPER_CHECK_SECONDS},
        ),
    ]


def render_slm_application(route: HybridRoute, placement: Placement) -> dict[str, Any]:
    """The SLM; on a cluster it lives in a Ray cluster of its own."""
    slm = route.spec.slm
    args = SlmArgs(
        route=route.metadata.name,
        token_file=placement.token_file,
        keeper_url=placement.gateway_url + _PREFIXES[KEEPER_APP],
        journal_dir=placement.journal_dir,
        engine=slm.engine.value,
        model_uri=_as_mounted(slm.model.uri, placement),
        model_name=model_name(slm.model.uri),
        engine_args=dict(sorted(slm.engine_args.items())),
        adapters={name: _as_mounted(uri, placement) for name, uri in sorted(slm.adapters.items())},
        tensor_parallel=max(1, slm.resources.gpus),
        hub_token_file=None if slm.model.credentials is None else placement.hub_token_file,
        context_tokens=slm.context_tokens,
        parallel_sequences=slm.parallel_sequences,
        max_ongoing_requests=_ONGOING_PER_TARGET * slm.scaling.target_ongoing_requests,
        first_byte_seconds=slm.timeouts.first_byte.total_seconds(),
        total_seconds=slm.timeouts.total.total_seconds(),
    )
    # No surge: a second replica beside the first needs a spare GPU.
    deployment = _scaled(slm.scaling, surge=False, cpus=1.0)
    if slm.resources.gpus:
        deployment["ray_actor_options"] |= {"num_gpus": slm.resources.gpus}
    return _application(SLM_APP, args.model_dump(mode="json"), deployment)


def _as_mounted(uri: str, placement: Placement) -> str:
    """Return the URI as a replica reads it: what is in a claim's volume by its path there."""
    claim = parse_claim(uri)
    return uri if claim is None else f"{placement.claims_dir}/{claim.claim}/{claim.path}"


def render_stand_in_application(*, tokens_per_second: float) -> dict[str, Any]:
    """The labelled stand-in for a remote LLM, served when no provider is configured."""
    args = StandInArgs(tokens_per_second=tokens_per_second)
    return _application(STAND_IN_APP, args.model_dump(mode="json"), _single())


def _application(name: str, args: dict[str, Any], deployment: dict[str, Any]) -> dict[str, Any]:
    module = name.replace("-", "_")
    return {
        "name": name,
        "route_prefix": _PREFIXES[name],
        "import_path": f"hybridroute_serve.apps.{module}:build",
        "args": args,
        "logging_config": dict(_LOGGING),
        "deployments": [{"name": name, "graceful_shutdown_timeout_s": LONGEST_REQUEST_SECONDS} | deployment],
    }


def _scaled(scaling: Scaling, *, surge: bool, cpus: float = CPU_APP_CPUS) -> dict[str, Any]:
    return {
        "max_ongoing_requests": 2 * _ONGOING_PER_TARGET * scaling.target_ongoing_requests,
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "max_replicas": scaling.max_replicas,
            "initial_replicas": scaling.min_replicas,
            "target_ongoing_requests": scaling.target_ongoing_requests,
            "upscale_delay_s": scaling.upscale_delay.total_seconds(),
            "downscale_delay_s": scaling.downscale_delay.total_seconds(),
            "metrics_interval_s": _AUTOSCALING_INTERVAL_SECONDS,
            "look_back_period_s": _AUTOSCALING_LOOK_BACK_SECONDS,
        },
        "ray_actor_options": {"num_cpus": cpus},
        **({"max_surge_percent": 100} if surge else {}),
    }


def _single() -> dict[str, Any]:
    return {"num_replicas": 1, "max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": CPU_APP_CPUS}}

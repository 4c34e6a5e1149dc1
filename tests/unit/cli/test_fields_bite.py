"""Every field of the spec changes what runs. A field that is accepted and then ignored is a defect.

What runs on one machine is the live policy, the Serve applications with their arguments, and the keys that are
kept for the proxy. A field that bites on a cluster alone is listed by `up`, and that is its bite here.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.fields import walk_fields
from hybridroute_cli.documents import cluster_only_fields
from hybridroute_cli.upstreams import find_hub_token, find_upstreams
from hybridroute_render.live import render_live_policy
from hybridroute_render.placement import Placement
from hybridroute_render.serve_config import render_gateway_applications, render_slm_application
from support.routes import merged, route_of

PLACEMENT = Placement(
    gateway_url="http://127.0.0.1:8000",
    slm_ingress_url="http://127.0.0.1:8000",
    gateway_haproxy_metrics_url="http://127.0.0.1:9101/metrics",
    slm_haproxy_metrics_url="http://127.0.0.1:9101/metrics",
    token_file="token",
    metrics_token_file="metrics-token",
    state_dir="state",
    journal_dir="journal",
    live_file="live.json",
)
ENVIRON = {"KEY_A": "a", "KEY_B": "b"}
SCALING = [
    ("minReplicas", {"minReplicas": 2, "maxReplicas": 4}, {"maxReplicas": 4}),
    ("maxReplicas", {"maxReplicas": 4}, {}),
    ("targetOngoingRequests", {"targetOngoingRequests": 7}, {}),
    ("upscaleDelay", {"upscaleDelay": "1s"}, {}),
    ("downscaleDelay", {"downscaleDelay": "1s"}, {}),
]
CASCADE = {
    "spec": {"routing": {"examples": {"local": ["balance"]}, "cascade": {"threshold": "0.5"}}},
}
EXAMPLES = {"spec": {"routing": {"examples": {"local": ["balance"]}}}}
POLICY = {"spec": {"routing": {"policy": {"file": "support.artifact"}}}}


def slm(**fields: Any) -> dict[str, Any]:
    return {"spec": {"slm": fields}}


def llm(**fields: Any) -> dict[str, Any]:
    return {"spec": {"llm": {"upstreams": [fields]}}}


def budget(**fields: Any) -> dict[str, Any]:
    return {"spec": {"budget": fields}}


def routing(**fields: Any) -> dict[str, Any]:
    return {"spec": {"routing": fields}}


KEYS_FILE = {"spec": {"auth": {"apiKeysFile": "keys.yaml"}}}
VLLM = slm(engine="vllm", model={"uri": "models/x"})
HUB = slm(engine="vllm", model={"uri": "hf://org/x", "credentials": {"env": "KEY_A"}})
Case = tuple[str, dict[str, Any], dict[str, Any]]
CASES: list[Case] = [
    # field, a change of it, what else the route must have
    ("spec.mode", {"spec": {"mode": "LLMOnly"}}, {}),
    ("spec.shadowServe", {"spec": {"shadowServe": "SLM"}}, {"spec": {"mode": "Shadow"}}),
    ("spec.slm.model.uri", slm(model={"uri": "other.gguf"}), {}),
    ("spec.slm.engine", slm(engine="vllm", model={"uri": "models/x"}), slm(model={"uri": "x.gguf"})),
    ("spec.slm.model.credentials.env", slm(model={"credentials": {"env": "KEY_B"}}), HUB),
    ("spec.slm.model.credentials.secretName", slm(model={"credentials": {"secretName": "hub"}}), HUB),
    ("spec.slm.model.credentials.key", slm(model={"credentials": {"key": "other"}}), HUB),
    ("spec.slm.engineArgs", slm(engineArgs={"enforce-eager": "true"}), VLLM),
    ("spec.slm.adapters", slm(adapters={"cards": "adapters/cards"}), VLLM),
    ("spec.slm.contextTokens", slm(contextTokens=1024), {}),
    ("spec.slm.parallelSequences", slm(parallelSequences=2), {}),
    ("spec.slm.capabilities.tools", slm(capabilities={"tools": True}), {}),
    ("spec.slm.capabilities.jsonSchema", slm(capabilities={"jsonSchema": False}), {}),
    ("spec.slm.resources.gpus", slm(resources={"gpus": 1}), slm(pricing={"gpuHourUSD": "0.80"})),
    ("spec.slm.resources.cpu", slm(resources={"cpu": "4"}), {}),
    ("spec.slm.resources.memory", slm(resources={"memory": "4Gi"}), {}),
    ("spec.slm.resources.nodeSelector", slm(resources={"nodeSelector": {"gpu": "a100"}}), {}),
    ("spec.slm.resources.tolerations", slm(resources={"tolerations": [{"key": "gpu"}]}), {}),
    ("spec.slm.resources.priorityClassName", slm(resources={"priorityClassName": "high"}), {}),
    ("spec.slm.resources.runtimeClassName", slm(resources={"runtimeClassName": "nvidia"}), {}),
    ("spec.slm.image", slm(image="registry/slm:1"), {}),
    ("spec.slm.rollout", slm(rollout="Surge"), {}),
    ("spec.topology", {"spec": {"topology": "HA"}}, {}),
    ("spec.pods.image", {"spec": {"pods": {"image": "registry/serve:1"}}}, {}),
    ("spec.pods.imagePullSecrets", {"spec": {"pods": {"imagePullSecrets": ["registry"]}}}, {}),
    ("spec.pods.priorityClassName", {"spec": {"pods": {"priorityClassName": "high"}}}, {}),
    ("spec.records.claimName", {"spec": {"records": {"claimName": "records"}}}, {}),
    ("spec.slm.pricing.machineHourUSD", slm(pricing={"machineHourUSD": "0.11"}), {}),
    (
        "spec.slm.pricing.gpuHourUSD",
        slm(pricing={"gpuHourUSD": "0.90"}),
        slm(resources={"gpus": 1}, pricing={"gpuHourUSD": "0.80"}),
    ),
    ("spec.slm.timeouts.firstByte", slm(timeouts={"firstByte": "3s"}), {}),
    ("spec.slm.timeouts.total", slm(timeouts={"total": "3m"}), {}),
    ("spec.llm.upstreams.*.name", llm(name="other"), {}),
    ("spec.llm.upstreams.*.baseURL", llm(baseURL="https://other.example/v1"), {}),
    ("spec.llm.upstreams.*.model", llm(model="small"), {}),
    (
        "spec.llm.upstreams.*.credentials.env",
        llm(credentials={"env": "KEY_B"}),
        llm(credentials={"env": "KEY_A"}),
    ),
    (
        "spec.llm.upstreams.*.credentials.file",
        llm(credentials={"file": "b.key"}),
        llm(credentials={"file": "a.key"}),
    ),
    (
        "spec.llm.upstreams.*.credentials.secretName",
        llm(credentials={"secretName": "provider"}),
        llm(credentials={"env": "KEY_A"}),
    ),
    (
        "spec.llm.upstreams.*.credentials.key",
        llm(credentials={"key": "other"}),
        llm(credentials={"env": "KEY_A"}),
    ),
    ("spec.llm.upstreams.*.headers", llm(headers={"X-Team": "cards"}), {}),
    ("spec.llm.upstreams.*.caBundle", llm(caBundle="ca.pem"), {}),
    (
        "spec.llm.upstreams.*.pricing.inputPerMillionTokensUSD",
        llm(pricing={"inputPerMillionTokensUSD": "2.51"}),
        {},
    ),
    (
        "spec.llm.upstreams.*.pricing.outputPerMillionTokensUSD",
        llm(pricing={"outputPerMillionTokensUSD": "10.01"}),
        {},
    ),
    (
        "spec.llm.upstreams.*.pricing.cachedInputPerMillionTokensUSD",
        llm(pricing={"cachedInputPerMillionTokensUSD": "1"}),
        {},
    ),
    (
        "spec.llm.upstreams.*.pricing.reasoningPerMillionTokensUSD",
        llm(pricing={"reasoningPerMillionTokensUSD": "3"}),
        {},
    ),
    ("spec.llm.upstreams.*.timeouts.connect", llm(timeouts={"connect": "1s"}), {}),
    ("spec.llm.upstreams.*.timeouts.firstByte", llm(timeouts={"firstByte": "3s"}), {}),
    ("spec.llm.upstreams.*.timeouts.total", llm(timeouts={"total": "3m"}), {}),
    ("spec.llm.upstreams.*.maxOutputTokens", llm(maxOutputTokens=100), {}),
    ("spec.routing.examples.local", routing(examples={"local": ["balance"]}), {}),
    ("spec.routing.examples.remote", routing(examples={"remote": ["poem"]}), EXAMPLES),
    ("spec.routing.confidence.threshold", routing(confidence={"threshold": "0.6"}), EXAMPLES),
    ("spec.routing.confidence.maxRisk", routing(confidence={"maxRisk": "0.02"}), POLICY),
    ("spec.routing.confidence.delta", routing(confidence={"delta": "0.05"}), POLICY),
    ("spec.routing.policy.file", routing(policy={"file": "other.artifact"}), POLICY),
    ("spec.routing.policy.configMapName", routing(policy={"configMapName": "support"}), POLICY),
    ("spec.routing.policy.key", routing(policy={"key": "other"}), POLICY),
    ("spec.routing.drift.action", routing(drift={"action": "AlertOnly"}), POLICY),
    ("spec.routing.drift.tightenMaxRisk", routing(drift={"tightenMaxRisk": "0.02"}), POLICY),
    ("spec.routing.cascade.threshold", routing(cascade={"threshold": "0.6"}), CASCADE),
    ("spec.routing.cascade.maxShare", routing(cascade={"maxShare": "0.3"}), CASCADE),
    ("spec.routing.cascade.tokens", routing(cascade={"tokens": 8}), CASCADE),
    ("spec.routing.audit.share", routing(audit={"share": "0.05"}), POLICY),
    ("spec.routing.scope.threshold", routing(scope={"threshold": "0.4"}), EXAMPLES),
    ("spec.routing.outOfScope", routing(outOfScope="Reject"), EXAMPLES),
    ("spec.llm.retryBudget.ratio", {"spec": {"llm": {"retryBudget": {"ratio": "0.2"}}}}, {}),
    ("spec.llm.retryBudget.minPerSecond", {"spec": {"llm": {"retryBudget": {"minPerSecond": "2"}}}}, {}),
    ("spec.llm.retryBudget.burst", {"spec": {"llm": {"retryBudget": {"burst": 7}}}}, {}),
    ("spec.llm.retryBudget.maxAttempts", {"spec": {"llm": {"retryBudget": {"maxAttempts": 2}}}}, {}),
    ("spec.llm.retryBudget.retryTimeouts", {"spec": {"llm": {"retryBudget": {"retryTimeouts": True}}}}, {}),
    ("spec.llm.hedging.enabled", {"spec": {"llm": {"hedging": {"enabled": True}}}}, {}),
    ("spec.budget.limitUSD", budget(limitUSD="60"), budget(limitUSD="50")),
    ("spec.budget.window", budget(window="month"), budget(limitUSD="50")),
    ("spec.budget.onExhausted", budget(onExhausted="Reject"), budget(limitUSD="50")),
    ("spec.budget.onExhaustedOutOfScope", budget(onExhaustedOutOfScope="Degrade"), budget(limitUSD="50")),
    (
        "spec.llm.upstreams.*.caBundleRef.configMapName",
        llm(caBundleRef={"configMapName": "ca"}),
        {},
    ),
    ("spec.llm.upstreams.*.caBundleRef.secretName", llm(caBundleRef={"secretName": "ca"}), {}),
    ("spec.llm.upstreams.*.caBundleRef.key", llm(caBundleRef={"secretName": "ca", "key": "k"}), {}),
    ("spec.auth.apiKeysSecretName", {"spec": {"auth": {"apiKeysSecretName": "clients"}}}, KEYS_FILE),
    ("spec.auth.apiKeysSecretKey", {"spec": {"auth": {"apiKeysSecretKey": "other.yaml"}}}, KEYS_FILE),
    ("spec.auth.apiKeysFile", {"spec": {"auth": {"apiKeysFile": "keys.yaml"}}}, {}),
    ("spec.records.maxAge", {"spec": {"records": {"maxAge": "24h"}}}, {}),
    ("spec.records.maxSizeMiB", {"spec": {"records": {"maxSizeMiB": 64}}}, {}),
    ("spec.records.promptText", {"spec": {"records": {"promptText": True}}}, {}),
    ("spec.limits.maxBodyMiB", {"spec": {"limits": {"maxBodyMiB": 1}}}, {}),
    *[
        (
            f"spec.{part}.scaling.{field}",
            {"spec": {part: {"scaling": change}}},
            {"spec": {part: {"scaling": need}}},
        )
        for part in ("slm", "llm", "routing")
        for field, change, need in SCALING
    ],
]


def what_runs(route: HybridRoute, directory: Path) -> str:
    sources = find_upstreams(
        route,
        route_file=directory / "route.yaml",
        secrets_dir=Path("secrets"),
        environ=ENVIRON,
        stand_in_url="http://127.0.0.1:8000/stand-in/v1",
    )
    return json.dumps(
        {
            "live": render_live_policy(route, sources.resolved).model_dump(mode="json"),
            "gateway": render_gateway_applications(route, PLACEMENT),
            "slm": render_slm_application(route, PLACEMENT),
            "secrets": {str(file): key for file, key in sources.secrets.items()},
            "hub token": find_hub_token(route, ENVIRON),
            "refused by --strict": cluster_only_fields(route),
        }
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("a.key", "b.key", "ca.pem"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(("field", "change", "need"), CASES, ids=[case[0] for case in CASES])
def test_field_bites(field: str, change: dict[str, Any], need: dict[str, Any], directory: Path) -> None:
    before, after = route_of(need), route_of(merged(need, change))
    assert what_runs(before, directory) != what_runs(after, directory)


def test_each_field_of_the_spec_has_a_case() -> None:
    leaves = {
        ".".join(field.path)
        for field in walk_fields(HybridRoute)
        if field.path[0] == "spec" and field.model is None and "tolerations" not in field.path
    }
    assert leaves - {case[0] for case in CASES} == set()

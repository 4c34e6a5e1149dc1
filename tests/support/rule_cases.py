"""Objects for each rule between fields: one that breaks it, and a neighbour that keeps it.

Read by the tests of the models and by those of a real API server.
"""

from typing import Any

__all__ = ["RULE_CASES", "routing", "second", "slm", "upstream", "vllm"]

SLM, PRIMARY = "slm", "primary"


def slm(**fields: Any) -> dict[str, Any]:
    return {"spec": {"slm": fields}}


def vllm(**fields: Any) -> dict[str, Any]:
    return slm(
        **(
            {"engine": "vllm", "model": {}}
            | fields
            | {"model": {"uri": "models/x", **fields.get("model", {})}}
        )
    )


def upstream(**fields: Any) -> dict[str, Any]:
    return {"spec": {"llm": {"upstreams": [fields]}}}


def budget(**fields: Any) -> dict[str, Any]:
    return {"spec": {"budget": {"limitUSD": "50", **fields}}}


def second(**fields: Any) -> dict[str, Any]:
    prices = {"inputPerMillionTokensUSD": "1", "outputPerMillionTokensUSD": "1"}
    other = {"name": "second", "baseURL": "http://localhost:1/v1", "model": "m", "pricing": prices} | fields
    return {"spec": {"llm": {"upstreams": [{}, other]}}}


def routing(**fields: Any) -> dict[str, Any]:
    return {"spec": {"routing": fields}}


RULE_CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # rule, an object that breaks it, an object next to it that does not
    (
        "shadow-serve-unused",
        {"spec": {"mode": "Hybrid", "shadowServe": "SLM"}},
        {"spec": {"mode": "Shadow", "shadowServe": "SLM"}},
    ),
    ("scaling-bounds", slm(scaling={"minReplicas": 2}), slm(scaling={"minReplicas": 2, "maxReplicas": 2})),
    ("scaling-bounds", routing(scaling={"minReplicas": 2}), routing(scaling={"maxReplicas": 2})),
    (
        "scaling-bounds",
        {"spec": {"llm": {"scaling": {"minReplicas": 3, "maxReplicas": 2}}}},
        {"spec": {"llm": {"scaling": {"minReplicas": 3, "maxReplicas": 3}}}},
    ),
    ("model-scheme", slm(model={"uri": "hf://org/model"}), slm(model={"uri": "bundled:smollm2-135m"})),
    ("model-scheme", slm(model={"uri": "bundled:other"}), slm(model={"uri": "/models/other.gguf"})),
    ("model-scheme", slm(model={"uri": "pvc://models"}), slm(model={"uri": "pvc://models/other.gguf"})),
    ("model-file", slm(model={"uri": "model.bin"}), slm(model={"uri": "./model.gguf"})),
    ("model-file", slm(model={"uri": "pvc://models/other"}), slm(model={"uri": "pvc://models/a/b.gguf"})),
    ("model-folder", vllm(model={"uri": "model.gguf"}), vllm(model={"uri": "models/qwen"})),
    ("model-folder", vllm(model={"uri": "hf://model"}), vllm(model={"uri": "hf://org/model@v1.0"})),
    ("model-folder", vllm(model={"uri": "s3://org/model"}), vllm(model={"uri": "pvc://models/qwen"})),
    (
        "hub-credentials-engine",
        slm(model={"credentials": {"env": "HF_TOKEN"}}),
        vllm(model={"uri": "hf://org/model", "credentials": {"env": "HF_TOKEN"}}),
    ),
    (
        "hub-credential-source",
        vllm(model={"credentials": {"key": "k"}}),
        vllm(model={"credentials": {"secretName": "hub", "key": "k"}}),
    ),
    ("engine-args-engine", slm(engineArgs={"seed": "1"}), vllm(engineArgs={"seed": "1"})),
    ("engine-arg-name", vllm(engineArgs={"--seed": "1"}), vllm(engineArgs={"max-lora-rank": "64"})),
    ("engine-arg-name", vllm(engineArgs={"max_model_len": "1"}), vllm(engineArgs={"v1": "1"})),
    ("engine-arg-reserved", vllm(engineArgs={"max-model-len": "1"}), vllm(engineArgs={"max-loras": "1"})),
    ("adapters-engine", slm(adapters={"cards": "a"}), vllm(adapters={"cards": "a"})),
    ("adapter-name", vllm(adapters={"llm": "a"}), vllm(adapters={"LLM": "a"})),
    ("adapter-name", vllm(adapters={"a/b": "a"}), vllm(adapters={"a.b_c-d": "a"})),
    ("adapter-uri", vllm(adapters={"cards": "a.gguf"}), vllm(adapters={"cards": "hf://org/cards"})),
    (
        "tools-parser",
        vllm(capabilities={"tools": True}),
        vllm(capabilities={"tools": True}, engineArgs={"tool-call-parser": "hermes"}),
    ),
    (
        "gpu-price",
        slm(resources={"gpus": 1}),
        slm(resources={"gpus": 1}, pricing={"gpuHourUSD": "0"}),
    ),
    ("slm-timeouts", slm(timeouts={"firstByte": "3m"}), slm(timeouts={"firstByte": "2m"})),
    ("budget-window", budget(window="tomorrow"), budget(window="24h")),
    ("budget-window", budget(window="1w"), budget(window="month@Europe/Berlin")),
    ("upstream-names", second(name=PRIMARY), second(name="second")),
    ("upstream-name-reserved", upstream(name=SLM), upstream(name="slm2")),
    ("base-url", upstream(baseURL="provider/v1"), upstream(baseURL="http://[::1]:8000/v1")),
    ("base-url", upstream(baseURL="ftp://provider/v1"), upstream(baseURL="HTTPS://provider/v1/")),
    ("base-url", upstream(baseURL="https:///v1"), upstream(baseURL="https://provider")),
    ("base-url", upstream(baseURL="https://a b/v1"), upstream(baseURL="https://a/v1")),
    ("base-url", upstream(baseURL="https://a:99999/v1"), upstream(baseURL="https://a:9999/v1")),
    ("base-url-bare", upstream(baseURL="https://u:p@a/v1"), upstream(baseURL="https://a/@v1")),
    ("base-url-bare", upstream(baseURL="https://a/v1?x=1"), upstream(baseURL="https://a/v1")),
    ("base-url-bare", upstream(baseURL="https://a/v1#x"), upstream(baseURL="https://a/v1")),
    (
        "base-url-operation",
        upstream(baseURL="https://a/v1/chat/completions/"),
        upstream(baseURL="https://a/v1/chat"),
    ),
    ("ca-bundle-source", upstream(caBundleRef={}), upstream(caBundleRef={"configMapName": "ca"})),
    (
        "ca-bundle-source",
        upstream(caBundleRef={"configMapName": "ca", "secretName": "ca"}),
        upstream(caBundleRef={"secretName": "ca", "key": "tls.pem"}),
    ),
    ("auth-source", {"spec": {"auth": {}}}, {"spec": {"auth": {"apiKeysFile": "clients.yaml"}}}),
    (
        "auth-source",
        {"spec": {"auth": {"apiKeysSecretKey": "clients"}}},
        {"spec": {"auth": {"apiKeysSecretName": "clients", "apiKeysSecretKey": "clients"}}},
    ),
    ("credential-source", upstream(credentials={}), upstream(credentials={"env": "KEY"})),
    (
        "credential-source",
        upstream(credentials={"env": "KEY", "file": "k"}),
        upstream(credentials={"file": "k"}),
    ),
    (
        "credential-source",
        upstream(credentials={"key": "k"}),
        upstream(credentials={"env": "KEY", "secretName": "provider", "key": "k"}),
    ),
    ("header-name", upstream(headers={"X Team": "a"}), upstream(headers={"X-Team": "a"})),
    ("header-name", upstream(headers={"X-Te\u00e4m": "a"}), upstream(headers={"x_team.1": "a"})),
    ("header-reserved", upstream(headers={"AUTHORIZATION": "a"}), upstream(headers={"X-Authorization": "a"})),
    ("header-reserved", upstream(headers={"transfer-encoding": "a"}), upstream(headers={"te2": "a"})),
    ("header-reserved", upstream(headers={"X-HybridRoute-Gate": "a"}), upstream(headers={"X-Hybrid": "a"})),
    ("header-value", upstream(headers={"x": "a\r\nHost: b"}), upstream(headers={"x": "a b"})),
    ("header-value", upstream(headers={"x": " a"}), upstream(headers={"x": "a"})),
    ("header-value", upstream(headers={"x": ""}), upstream(headers={"x": "-"})),
    (
        "header-names-unique",
        upstream(headers={"x-a": "1", "X-A": "1"}),
        upstream(headers={"x-a": "1", "x-b": "1"}),
    ),
    (
        "cached-price",
        upstream(pricing={"cachedInputPerMillionTokensUSD": "2.500000001"}),
        upstream(pricing={"cachedInputPerMillionTokensUSD": "2.50"}),
    ),
    ("upstream-timeouts", upstream(timeouts={"total": "19s"}), upstream(timeouts={"total": "20s"})),
    (
        "upstream-timeouts",
        upstream(timeouts={"connect": "10s", "firstByte": "1s", "total": "9s"}),
        upstream(timeouts={"connect": "9s", "firstByte": "1s", "total": "9s"}),
    ),
    (
        "examples-remote-alone",
        routing(examples={"remote": ["poem"]}),
        routing(examples={"remote": ["poem"], "local": ["balance"]}),
    ),
    (
        "examples-distinct",
        routing(examples={"local": ["My Balance"], "remote": ["x", "my  balance "]}),
        routing(examples={"local": ["My Balance"], "remote": ["x", "my balances"]}),
    ),
    ("example-blank", routing(examples={"local": [" \t"]}), routing(examples={"local": ["."]})),
    (
        "gates-without-examples",
        routing(outOfScope="Reject"),
        routing(outOfScope="Reject", examples={"local": ["balance"]}),
    ),
    (
        "gates-without-examples",
        routing(scope={"threshold": "0.2"}),
        routing(scope={}, confidence={}, outOfScope="Escalate"),
    ),
    (
        "gates-without-examples",
        routing(confidence={"maxRisk": "0.05"}),
        routing(confidence={"maxRisk": "0.05"}, outOfScope="Reject", policy={"file": "support.artifact"}),
    ),
    ("policy-source", routing(policy={"key": "a"}), routing(policy={"configMapName": "p", "key": "a"})),
    (
        "policy-or-examples",
        routing(policy={"file": "p"}, examples={"local": ["balance"]}),
        routing(policy={"file": "p"}, examples={"local": []}),
    ),
    (
        "confidence-source",
        routing(policy={"file": "p"}, confidence={"threshold": "0.9", "maxRisk": "0.05"}),
        routing(policy={"file": "p"}, confidence={"threshold": "0.9"}),
    ),
    (
        "confidence-source",
        routing(policy={"file": "p"}, confidence={"threshold": "0.9", "delta": "0.1"}),
        routing(policy={"file": "p"}, confidence={"maxRisk": "0.02", "delta": "0.1"}),
    ),
    (
        "promise-without-policy",
        routing(examples={"local": ["balance"]}, confidence={"maxRisk": "0.05"}),
        routing(examples={"local": ["balance"]}, confidence={"threshold": "0.05"}),
    ),
    (
        "promise-without-policy",
        routing(examples={"local": ["balance"]}, confidence={"delta": "0.05"}),
        routing(policy={"file": "p"}, confidence={"delta": "0.05"}),
    ),
    (
        "drift-without-policy",
        routing(examples={"local": ["balance"]}, drift={"action": "AlertOnly"}),
        routing(policy={"file": "p"}, drift={"action": "AlertOnly"}),
    ),
    (
        "audit-without-policy",
        routing(examples={"local": ["balance"]}, audit={"share": "0.1"}),
        routing(policy={"file": "p"}, audit={"share": "0.1"}),
    ),
    (
        "tightening-unused",
        routing(policy={"file": "p"}, drift={"action": "EscalateAll", "tightenMaxRisk": "0.01"}),
        routing(policy={"file": "p"}, drift={"tightenMaxRisk": "0.01"}),
    ),
    (
        "tightening-loosens",
        routing(policy={"file": "p"}, drift={"tightenMaxRisk": "0.06"}),
        routing(policy={"file": "p"}, drift={"tightenMaxRisk": "0.05"}),
    ),
    (
        "tightening-loosens",
        routing(policy={"file": "p"}, confidence={"maxRisk": "0.02"}, drift={"tightenMaxRisk": "0.03"}),
        routing(policy={"file": "p"}, confidence={"maxRisk": "0.1"}, drift={"tightenMaxRisk": "0.08"}),
    ),
    (
        "cascade-without-slm",
        routing(cascade={"threshold": "0.5"}),
        routing(cascade={"threshold": "0.5"}, policy={"file": "p"}),
    ),
    (
        "cascade-without-slm",
        routing(cascade={"threshold": "0"}, examples={"local": []}),
        routing(cascade={"threshold": "0"}, examples={"local": ["balance"]}),
    ),
    (
        "cascade-threshold",
        routing(cascade={"maxShare": "0.1"}, examples={"local": ["balance"]}),
        routing(cascade={"maxShare": "0.1"}, policy={"file": "p"}),
    ),
]

"""Specs that a walk goes through: valid ones, and ones that a person might write by mistake."""

from typing import Any

__all__ = ["MISGUIDED", "VALID"]

VALID: list[dict[str, Any]] = [
    {},
    {"spec": {"mode": "LLMOnly"}},
    {"spec": {"topology": "HA"}},
    {"spec": {"slm": {"image": "other:1"}}},
    {"spec": {"slm": {"rollout": "Surge"}}},
    {"spec": {"slm": {"scaling": {"minReplicas": 2, "maxReplicas": 3}}}},
    {"spec": {"slm": {"resources": {"nodeSelector": {"pool": "a"}}}}},
    {"spec": {"slm": {"resources": {"gpus": 1}, "pricing": {"gpuHourUSD": "0.8"}}}},
    {"spec": {"llm": {"upstreams": [{"credentials": {"secretName": "provider"}}]}}},
    {"spec": {"pods": {"imagePullSecrets": ["registry"], "priorityClassName": "high"}}},
    {"spec": {"records": {"claimName": "records"}}},
]
"""Each differs from the others in something that a cluster shows."""

MISGUIDED: list[dict[str, Any]] = [
    {"spec": {"slm": {"model": {"uri": "model.gguf"}}}},
    {"spec": {"slm": {"contextTokens": 1}}},
    {"spec": {"slm": {"resources": {"gpus": 1}}}},
    {"spec": {"llm": {"upstreams": [{"credentials": {"env": "KEY"}}]}}},
    {"spec": {"routing": {"examples": {"local": ["a"], "remote": ["A"]}}}},
]
"""Some are refused by the API server, some by the operator, all by the models."""

"""Rules of `spec.routing`: what decides, and what needs what."""

from typing import Final

from hybridroute_api.v1alpha1.routing import (
    DEFAULT_MAX_RISK,
    Confidence,
    Drift,
    Policy,
    Routing,
    RoutingExamples,
)
from hybridroute_api.v1alpha1.rules.rule import Location, Rule
from hybridroute_api.vocabulary import DriftAction

__all__ = ["ROUTING_RULES"]


def _remote_needs_local(examples: RoutingExamples) -> bool:
    return bool(examples.local) or not examples.remote


def _distinct_examples(examples: RoutingExamples) -> bool:
    return _first_shared(examples) is None


def _shared_example(examples: RoutingExamples) -> Location:
    return ("remote", _first_shared(examples) or 0)


def _first_shared(examples: RoutingExamples) -> int | None:
    local = {_folded(text) for text in examples.local}
    return next((index for index, text in enumerate(examples.remote) if _folded(text) in local), None)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _no_blank_example(example: str) -> bool:
    return bool(example.strip())


def _gates_have_something(routing: Routing) -> bool:
    return bool(routing.examples.local) or routing.policy is not None or not _changed_gates(routing)


def _first_changed_gate(routing: Routing) -> Location:
    return (_changed_gates(routing)[0],)


def _changed_gates(routing: Routing) -> list[str]:
    default = Routing()
    gates = {
        "confidence": routing.confidence != default.confidence,
        "scope": routing.scope != default.scope,
        "outOfScope": routing.out_of_scope != default.out_of_scope,
    }
    return [name for name, changed in gates.items() if changed]


def _usable_policy_source(policy: Policy) -> bool:
    return policy.file is not None or policy.config_map_name is not None


def _one_that_decides(routing: Routing) -> bool:
    return routing.policy is None or not routing.examples.local


def _one_way_to_trust(confidence: Confidence) -> bool:
    return confidence.threshold is None or (confidence.max_risk is None and confidence.delta is None)


def _promise_has_policy(routing: Routing) -> bool:
    confidence = routing.confidence
    promises = confidence.max_risk is not None or confidence.delta is not None
    return routing.policy is not None or not routing.examples.local or not promises


def _drift_has_policy(routing: Routing) -> bool:
    return routing.policy is not None or routing.drift is None


def _cascade_has_something(routing: Routing) -> bool:
    return routing.cascade is None or bool(routing.examples.local) or routing.policy is not None


def _cascade_has_threshold(routing: Routing) -> bool:
    return routing.cascade is None or routing.cascade.threshold is not None or routing.policy is not None


def _audit_has_policy(routing: Routing) -> bool:
    return routing.policy is not None or routing.audit is None


def _tightening_is_used(drift: Drift) -> bool:
    return drift.tighten_max_risk is None or drift.action is DriftAction.TIGHTEN


def _tightening_is_tighter(routing: Routing) -> bool:
    if routing.drift is None or routing.drift.tighten_max_risk is None:
        return True
    allowed = routing.confidence.max_risk
    if allowed is None:
        return routing.confidence.threshold is not None or routing.drift.tighten_max_risk <= DEFAULT_MAX_RISK
    return routing.drift.tighten_max_risk <= allowed


_CEL_GATES: Final = (
    "size(self.examples.local) > 0 || has(self.policy) || ("
    "!has(self.confidence.threshold) && !has(self.confidence.maxRisk) && !has(self.confidence.delta)"
    f" && !has(self.scope.threshold) && self.outOfScope == '{Routing().out_of_scope}')"
)
_CEL_TIGHTER: Final = (
    "!has(self.drift) || !has(self.drift.tightenMaxRisk) || (has(self.confidence.maxRisk)"
    " ? double(self.drift.tightenMaxRisk) <= double(self.confidence.maxRisk)"
    f" : has(self.confidence.threshold) || double(self.drift.tightenMaxRisk) <= double('{DEFAULT_MAX_RISK}'))"
)


ROUTING_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "examples-remote-alone",
        ("spec.routing.examples",),
        "is given without local examples, so nothing could stay on the SLM: add some under local, or remove it",
        _remote_needs_local,
        cel="size(self.local) > 0 || size(self.remote) == 0",
        field="remote",
    ),
    Rule(
        "examples-distinct",
        ("spec.routing.examples",),
        "is also a local example: keep it in one of the two lists",
        _distinct_examples,
        cel="",
        blames=_shared_example,
    ),
    Rule(
        "example-blank",
        ("spec.routing.examples.local.*", "spec.routing.examples.remote.*"),
        "is blank: write a request as a client would, or remove the item",
        _no_blank_example,
        cel="self.trim() != ''",
    ),
    Rule(
        "gates-without-examples",
        ("spec.routing",),
        "needs examples or a policy, and there is neither: add one of the two under routing, or leave it out",
        _gates_have_something,
        cel=_CEL_GATES,
        blames=_first_changed_gate,
    ),
    Rule(
        "policy-source",
        ("spec.routing.policy",),
        "needs file on one machine, configMapName in a cluster: name one, or leave policy out",
        _usable_policy_source,
        cel="has(self.file) || has(self.configMapName)",
    ),
    Rule(
        "policy-or-examples",
        ("spec.routing",),
        "is given beside examples, and only one of the two can decide: remove routing.examples or routing.policy",
        _one_that_decides,
        cel="!has(self.policy) || size(self.examples.local) == 0",
        field="policy",
    ),
    Rule(
        "confidence-source",
        ("spec.routing.confidence",),
        "is a threshold by hand beside maxRisk or delta, which choose one themselves: keep one of the two",
        _one_way_to_trust,
        cel="!has(self.threshold) || (!has(self.maxRisk) && !has(self.delta))",
        field="threshold",
    ),
    Rule(
        "promise-without-policy",
        ("spec.routing",),
        "needs a policy, because examples carry no promise: make one with hybridroute calibrate, or use threshold",
        _promise_has_policy,
        cel=(
            "has(self.policy) || size(self.examples.local) == 0"
            " || (!has(self.confidence.maxRisk) && !has(self.confidence.delta))"
        ),
        field="confidence",
    ),
    Rule(
        "drift-without-policy",
        ("spec.routing",),
        "needs the charts of a policy, and there is none: add routing.policy, or leave drift out",
        _drift_has_policy,
        cel="has(self.policy) || !has(self.drift)",
        field="drift",
    ),
    Rule(
        "audit-without-policy",
        ("spec.routing",),
        "needs a policy, whose kept requests it watches: add routing.policy, or leave audit out",
        _audit_has_policy,
        cel="has(self.policy) || !has(self.audit)",
        field="audit",
    ),
    Rule(
        "tightening-unused",
        ("spec.routing.drift",),
        "is used by action Tighten alone: set action to Tighten, or leave it out",
        _tightening_is_used,
        cel="!has(self.tightenMaxRisk) || self.action == 'Tighten'",
        field="tightenMaxRisk",
    ),
    Rule(
        "tightening-loosens",
        ("spec.routing",),
        "has a tightenMaxRisk above confidence.maxRisk (default 0.05), which would keep more: lower it",
        _tightening_is_tighter,
        cel=_CEL_TIGHTER,
        field="drift",
    ),
    Rule(
        "cascade-without-slm",
        ("spec.routing",),
        "is for what stays on the SLM, and nothing does: add examples or a policy under routing, or leave it out",
        _cascade_has_something,
        cel="!has(self.cascade) || size(self.examples.local) > 0 || has(self.policy)",
        field="cascade",
    ),
    Rule(
        "cascade-threshold",
        ("spec.routing",),
        'has no threshold, and only a policy can know one: add cascade.threshold, for example "0.5", or a policy',
        _cascade_has_threshold,
        cel="!has(self.cascade) || has(self.cascade.threshold) || has(self.policy)",
        field="cascade",
    ),
)

"""What is known of one request so far, and the open and the record that are made of it."""

import msgspec

from hybridroute_api.records import CascadeCheck, DecisionRecord, OpenRequest
from hybridroute_api.serving import LivePolicy
from hybridroute_api.standing import DriftStanding
from hybridroute_api.vocabulary import Api, Outcome, OutsidePromise, PathName
from hybridroute_serve.auth.clients import Client
from hybridroute_serve.routing.artifact.terms import ArtifactTerms
from hybridroute_serve.routing.facts import RequestFacts
from hybridroute_serve.routing.guarantee import why_outside
from hybridroute_serve.routing.route_decision import RouteDecision
from hybridroute_serve.wire.requests import ParsedRequest

__all__ = ["Progress"]

_SERVED = frozenset({Outcome.OK, Outcome.CUT, Outcome.CANCELLED})
"""Outcomes of a request whose client got an answer, or the beginning of one."""


class Progress(msgspec.Struct):
    """One request; the exchange fills it in as it goes."""

    request_id: str
    route: str
    replica: str
    api: Api
    received_at: float
    """Unix seconds."""
    policy: LivePolicy | None = None
    client: Client | None = None
    parsed: ParsedRequest | None = None
    facts: RequestFacts | None = None
    terms: ArtifactTerms | None = None
    """Of the calibrated policy in force; None while none is."""
    standing: DriftStanding | None = None
    """What was known of drift when it was decided."""
    decision: RouteDecision | None = None
    audit_propensity: float | None = None
    """Chance with which it was drawn for the audit; None where it could not be."""
    decision_seconds: float = 0.0
    cascade: CascadeCheck | None = None
    first_byte_seconds: float | None = None
    failed_over_from: PathName | None = None
    answered_by: PathName | None = None
    status: int = 0
    """0 until an answer has begun."""
    outcome: Outcome = Outcome.UPSTREAM_ERROR
    error_code: str | None = None

    def to_open(self, parsed: ParsedRequest, decision: RouteDecision, policy: LivePolicy) -> OpenRequest:
        """Return what is journalled before the request is handed on."""
        assert decision.path is not None  # noqa: S101 - refusals are not opened
        return OpenRequest(
            request_id=self.request_id,
            route=self.route,
            api=self.api,
            stream=parsed.stream,
            requested_model=parsed.model,
            path=decision.path,
            gate=decision.gate,
            reason=decision.reason,
            received_at=self.received_at,
            policy_version=policy.version,
            confidence=decision.confidence,
            threshold=decision.threshold,
            scope_score=decision.scope_score,
            scope_threshold=decision.scope_threshold,
            nearest=decision.nearest,
            artifact=self.terms.artifact if self.terms else None,
            cluster=decision.cluster,
            topic=decision.topic,
        )

    def to_record(self, total_seconds: float) -> DecisionRecord:
        """Return the record of a request that has ended."""
        parsed, decision, policy = self.parsed, self.decision, self.policy
        asked = decision is not None and policy is not None and policy.routing.artifact is not None
        served = self.answered_by is PathName.SLM and self.outcome in _SERVED
        outside: OutsidePromise | None = None
        judged = False
        if asked and served and decision is not None and self.facts is not None:
            judged = True
            outside = why_outside(decision, self.facts, self.terms, self.standing)
        return DecisionRecord(
            request_id=self.request_id,
            route=self.route,
            replica=self.replica,
            api=self.api,
            stream=parsed.stream if parsed else False,
            requested_model=parsed.model if parsed else "",
            path=self.answered_by or (decision.path if decision else None),
            gate=decision.gate if decision else None,
            reason=decision.reason if decision else "",
            status=self.status,
            outcome=self.outcome,
            received_at=self.received_at,
            decision_seconds=self.decision_seconds,
            total_seconds=total_seconds,
            first_byte_seconds=self.first_byte_seconds,
            policy_version=policy.version if policy else "",
            confidence=decision.confidence if decision else None,
            threshold=decision.threshold if decision else None,
            scope_score=decision.scope_score if decision else None,
            scope_threshold=decision.scope_threshold if decision else None,
            nearest=decision.nearest if decision else None,
            artifact=self.terms.artifact if self.terms else None,
            cluster=decision.cluster if decision else None,
            topic=decision.topic if decision else None,
            cascade=self.cascade,
            audit_propensity=self.audit_propensity,
            failed_over_from=self.failed_over_from,
            shadow_gate=decision.shadow_gate if decision else None,
            shadow_path=decision.shadow_path if decision else None,
            client=self.client.name if self.client else None,
            guarantee_covered=judged and outside is None,
            outside_promise=outside,
            error_code=self.error_code,
            prompt_text=parsed.routing_text if parsed and policy and policy.records.prompt_text else None,
            conversation_key=parsed.next_conversation_key if parsed else None,
        )

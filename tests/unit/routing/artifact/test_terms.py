"""What an artifact and the live policy come to: thresholds from the certified table, and the verdict on the promise."""

import pytest
from msgspec import structs

from hybridroute_api.serving import CascadePolicy
from hybridroute_api.standing import GuaranteeReason, GuaranteeStatus
from hybridroute_serve.routing.artifact.file import decode_artifact
from hybridroute_serve.routing.artifact.header import ArtifactHeader
from hybridroute_serve.routing.artifact.margins import MarginChoice, MarginPoint, MarginTable
from hybridroute_serve.routing.artifact.terms import ArtifactTerms, plan_terms
from hybridroute_serve.routing.artifact.validity import route_models
from support.artifacts import MODELS, artifact_policy, certified, labels_only
from support.policies import a_policy


@pytest.fixture(scope="module")
def header() -> ArtifactHeader:
    return decode_artifact(certified()).header


def terms(header: ArtifactHeader, models: dict[str, str] | None = None, **changes: object) -> ArtifactTerms:
    return plan_terms(header, "digest", artifact_policy(**changes), MODELS if models is None else models)


def test_the_threshold_is_the_certified_tables(header: ArtifactHeader) -> None:
    assert header.promise is not None
    for risk in (0.03, 0.05, 0.1, 0.2):
        found = terms(header, max_risk=risk, tighten_max_risk=0.03)
        expected = header.promise.threshold_for(risk, 0.1)
        assert (found.threshold, found.kept_share) == (expected.threshold, expected.kept_share)
        assert found.tight_threshold == header.promise.threshold_for(0.03, 0.1).threshold
        assert found.guarantee.status is GuaranteeStatus.TRUE
        assert found.guarantee.reason is GuaranteeReason.CERTIFIED


def test_less_risk_and_more_confidence_keep_less(header: ArtifactHeader) -> None:
    thresholds = [terms(header, max_risk=risk).threshold or 1.0 for risk in (0.03, 0.05, 0.1, 0.2)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert len(set(thresholds)) == 4
    surer = terms(header, delta=0.01).threshold
    usual = terms(header, delta=0.1).threshold
    assert surer is not None
    assert usual is not None
    assert surer > usual


def test_a_risk_that_cannot_be_promised_keeps_nothing_and_says_why(header: ArtifactHeader) -> None:
    found = terms(header, max_risk=0.001)
    assert found.threshold is None
    assert found.guarantee.reason is GuaranteeReason.NOTHING_KEPT
    assert "nothing is kept: with 600 certification rows" in found.why


def test_a_threshold_by_hand_promises_nothing(header: ArtifactHeader) -> None:
    found = terms(header, max_risk=None, threshold=0.8, scope_threshold=0.2)
    assert (found.threshold, found.scope_threshold) == (0.8, 0.2)
    assert found.guarantee.status is GuaranteeStatus.UNKNOWN
    assert found.guarantee.reason is GuaranteeReason.THRESHOLD_BY_HAND


def test_another_model_voids_the_promise_and_not_the_threshold(header: ArtifactHeader) -> None:
    found = terms(header, MODELS | {"slm": "another"})
    assert found.threshold == terms(header).threshold
    assert found.guarantee.status is GuaranteeStatus.FALSE
    assert found.guarantee.reason is GuaranteeReason.MODELS_CHANGED
    assert found.guarantee.message == (
        "slm was smollm2-135m when the promise was certified and is another: "
        "certify the policy on labels of what serves now"
    )


def test_labels_alone_are_a_scope_gate_without_a_promise() -> None:
    header = decode_artifact(labels_only()).header
    found = terms(header)
    assert (found.threshold, found.tight_threshold) == (None, None)
    assert found.scope_threshold == header.scope.threshold
    assert found.guarantee.status is GuaranteeStatus.UNKNOWN
    assert found.guarantee.reason is GuaranteeReason.NO_PROMISE


def test_the_cascades_threshold_is_the_policys_where_the_route_names_none(header: ArtifactHeader) -> None:
    table = MarginTable(
        tokens=16,
        shares=(0.1, 0.2),
        rows=100,
        points=(MarginPoint(0.9, (0.2, 0.3)), MarginPoint(0.0, (0.4, 0.5))),
    )
    with_margins = structs.replace(header, margins=table)

    def margin(header: ArtifactHeader, **cascade: float | int) -> MarginChoice | None:
        policy = CascadePolicy.model_validate({"max_share": 0.1, "tokens": 16, **cascade})
        asked = artifact_policy(max_risk=None, threshold=0.5)
        return plan_terms(header, "digest", asked, MODELS, policy).margin

    chosen = margin(with_margins)
    assert chosen is not None
    assert (chosen.threshold, chosen.why) == (0.4, "escalates at most 10 % of 100 labelled requests")
    wider = margin(with_margins, max_share=0.2)
    assert wider is not None
    assert wider.threshold == 0.5
    assert margin(with_margins, threshold=0.7) is None
    none = margin(header)
    assert none is not None
    assert (none.threshold, none.why) == (
        None,
        "the policy was calibrated without margins: give cascade.threshold",
    )
    assert terms(with_margins).margin is None


def test_the_models_of_a_route_are_what_it_serves_with() -> None:
    assert route_models(a_policy()) == MODELS

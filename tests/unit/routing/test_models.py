"""Model names: which are served in which mode, and what a client is told otherwise."""

import pytest

from hybridroute_api.vocabulary import Mode, PathName
from hybridroute_serve.routing.models import UnknownModelError, resolve_model, served_models


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("name", ["hybridroute", "support"])
def test_the_product_and_the_route_let_the_route_decide(name: str, mode: Mode) -> None:
    assert resolve_model(name, "support", mode).path is None


@pytest.mark.parametrize(
    ("mode", "served"),
    [
        (Mode.HYBRID, ("hybridroute", "support", "slm", "llm")),
        (Mode.SHADOW, ("hybridroute", "support", "slm", "llm")),
        (Mode.LOCAL_ONLY, ("hybridroute", "support", "slm")),
        (Mode.LLM_ONLY, ("hybridroute", "support", "llm")),
    ],
)
def test_served_names_are_the_resolvable_ones(mode: Mode, served: tuple[str, ...]) -> None:
    assert served_models("support", mode) == served
    for name in ("hybridroute", "support", "slm", "llm"):
        if name in served:
            assert resolve_model(name, "support", mode).path == (name if name in tuple(PathName) else None)
        else:
            with pytest.raises(
                UnknownModelError, match=f"'{name}' is not served .* while its mode is {mode}"
            ):
                resolve_model(name, "support", mode)


@pytest.mark.parametrize("name", ["gpt-4o", "", "SLM", "Support", "hybridroute ", "PathName.SLM"])
def test_any_other_name_is_unknown_and_the_message_lists_the_known(name: str) -> None:
    with pytest.raises(UnknownModelError, match=r"use one of hybridroute, support, slm, llm$"):
        resolve_model(name, "support", Mode.HYBRID)


def test_a_huge_name_is_not_echoed_whole() -> None:
    with pytest.raises(UnknownModelError) as raised:
        resolve_model("x" * 100_000, "support", Mode.HYBRID)
    assert len(str(raised.value)) < 300


def test_a_route_named_like_a_path_forces_that_path() -> None:
    assert served_models("slm", Mode.HYBRID) == ("hybridroute", "slm", "llm")
    assert resolve_model("slm", "slm", Mode.HYBRID).path is PathName.SLM


def test_an_adapter_s_name_forces_the_small_model() -> None:
    adapters = ("cards", "support")
    assert served_models("support", Mode.HYBRID, adapters) == (
        "hybridroute",
        "support",
        "slm",
        "llm",
        "cards",
    )
    assert resolve_model("cards", "support", Mode.HYBRID, adapters).path is PathName.SLM
    assert resolve_model("support", "support", Mode.HYBRID, adapters).path is None
    with pytest.raises(UnknownModelError, match=r"'cards' is not served .* while its mode is LLMOnly"):
        resolve_model("cards", "support", Mode.LLM_ONLY, adapters)

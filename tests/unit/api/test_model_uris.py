"""What a model's URI names."""

import pytest

from hybridroute_api.model_uris import ClaimPath, HubModel, model_name, parse_claim, parse_hub


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("bundled:smollm2-135m", "smollm2-135m"),
        ("/models/qwen.gguf", "qwen"),
        ("qwen-2.5.Q4.gguf", "qwen-2.5.Q4"),
        ("/models/SmolLM2-1.7B", "SmolLM2-1.7B"),
        ("hf://org/model@v2", "org/model"),
        ("pvc://models/qwen/7b", "7b"),
    ],
)
def test_the_model_s_name_in_records(uri: str, name: str) -> None:
    assert model_name(uri) == name


@pytest.mark.parametrize(
    ("uri", "hub"),
    [
        ("hf://org/model", HubModel("org/model", None)),
        ("hf://org/model@refs/pr/1", HubModel("org/model", "refs/pr/1")),
        ("/hf/org/model", None),
    ],
)
def test_a_hub_s_repository_and_revision(uri: str, hub: HubModel | None) -> None:
    assert parse_hub(uri) == hub


@pytest.mark.parametrize(
    ("uri", "claim"),
    [("pvc://models/a/b", ClaimPath("models", "a/b")), ("hf://org/model", None), ("models/a", None)],
)
def test_a_claim_and_the_path_in_its_volume(uri: str, claim: ClaimPath | None) -> None:
    assert parse_claim(uri) == claim

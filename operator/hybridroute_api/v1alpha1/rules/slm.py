"""Rules of `spec.slm`: which models, arguments and adapters go with which engine."""

import re
from typing import Final

from hybridroute_api.v1alpha1.rules.rule import Rule, cel_list
from hybridroute_api.v1alpha1.slm import (
    BUNDLED_MODELS,
    TOOL_PARSER_ARGUMENT,
    Engine,
    HubCredentials,
    Slm,
    SlmTimeouts,
)

__all__ = ["SLM_RULES"]

_SCHEME: Final = "^[A-Za-z][A-Za-z0-9+.-]*:"
_CLAIM: Final = "^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[^/]"
_HUB: Final = "^hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(@[A-Za-z0-9._/-]+)?$"
_GGUF: Final = ".gguf"
_ARGUMENT: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_RESERVED_ARGUMENTS: Final = frozenset(
    {
        "api-key",
        "api-server-count",
        "config",
        "disable-log-stats",
        "enable-lora",
        "grpc",
        "headless",
        "hf-token",
        "host",
        "lora-modules",
        "max-model-len",
        "max-num-seqs",
        "model",
        "port",
        "revision",
        "root-path",
        "served-model-name",
        "ssl-ca-certs",
        "ssl-certfile",
        "ssl-keyfile",
        "tensor-parallel-size",
        "uds",
    }
)
_ADAPTER: Final = "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_RESERVED_MODELS: Final = ("hybridroute", "llm", "slm")


def _slm_timeouts(timeouts: SlmTimeouts) -> bool:
    return timeouts.first_byte <= timeouts.total


def _llamacpp_scheme(slm: Slm) -> bool:
    uri = slm.model.uri
    return slm.engine is not Engine.LLAMACPP or uri in BUNDLED_MODELS or _is_file(uri)


def _llamacpp_file(slm: Slm) -> bool:
    uri = slm.model.uri
    return slm.engine is not Engine.LLAMACPP or not _is_file(uri) or uri.endswith(_GGUF)


def _vllm_model(slm: Slm) -> bool:
    return slm.engine is not Engine.VLLM or _is_folder(slm.model.uri)


def _adapter_uri(entry: tuple[str, str]) -> bool:
    return _is_folder(entry[1])


def _is_folder(uri: str) -> bool:
    return bool(re.match(_HUB, uri)) or (_is_file(uri) and not uri.endswith(_GGUF))


def _is_file(uri: str) -> bool:
    return bool(re.match(_CLAIM, uri)) or not re.match(_SCHEME, uri)


def _usable_hub_credentials(credentials: HubCredentials) -> bool:
    return credentials.env is not None or credentials.secret_name is not None


def _engine_has_credentials(slm: Slm) -> bool:
    return slm.engine is Engine.VLLM or slm.model.credentials is None


def _engine_has_arguments(slm: Slm) -> bool:
    return slm.engine is Engine.VLLM or not slm.engine_args


def _engine_has_adapters(slm: Slm) -> bool:
    return slm.engine is Engine.VLLM or not slm.adapters


def _legal_argument(entry: tuple[str, str]) -> bool:
    return bool(re.fullmatch(_ARGUMENT, entry[0], re.ASCII))


def _free_argument(entry: tuple[str, str]) -> bool:
    return entry[0] not in _RESERVED_ARGUMENTS


def _legal_adapter(entry: tuple[str, str]) -> bool:
    return bool(re.fullmatch(_ADAPTER, entry[0], re.ASCII)) and entry[0] not in _RESERVED_MODELS


def _tools_have_parser(slm: Slm) -> bool:
    return (
        slm.engine is not Engine.VLLM or not slm.capabilities.tools or TOOL_PARSER_ARGUMENT in slm.engine_args
    )


def _priced_gpus(slm: Slm) -> bool:
    return slm.resources.gpus == 0 or "gpu_hour_nano_usd" in slm.pricing.model_fields_set


_CEL_FILE: Final = f"self.model.uri.matches('{_CLAIM}') || !self.model.uri.matches('{_SCHEME}')"
_VLLM_ALONE: Final = "is for engine vllm alone: set engine to vllm, or remove it"
_FOLDERS: Final = (
    "hf://<organisation>/<model>, the path of a folder in Hugging Face's layout, or pvc://<claim>/<path>"
)


SLM_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "model-scheme",
        ("spec.slm",),
        f"is of a kind that llamacpp does not read: use {' or '.join(BUNDLED_MODELS)}, the path of a .gguf file, or"
        " pvc://<claim>/<path>.gguf",
        _llamacpp_scheme,
        cel=f"self.engine != 'llamacpp' || self.model.uri in {cel_list(BUNDLED_MODELS)} || {_CEL_FILE}",
        field="model.uri",
    ),
    Rule(
        "model-file",
        ("spec.slm",),
        f"must end in .gguf, the only file format that llamacpp reads, or be {' or '.join(BUNDLED_MODELS)}",
        _llamacpp_file,
        cel=f"self.engine != 'llamacpp' || !({_CEL_FILE}) || self.model.uri.endsWith('{_GGUF}')",
        field="model.uri",
    ),
    Rule(
        "model-folder",
        ("spec.slm",),
        f"is of a kind that vllm does not load: use {_FOLDERS}",
        _vllm_model,
        cel=(
            f"self.engine != 'vllm' || self.model.uri.matches('{_HUB}')"
            f" || (({_CEL_FILE}) && !self.model.uri.endsWith('{_GGUF}'))"
        ),
        field="model.uri",
    ),
    Rule(
        "hub-credentials-engine",
        ("spec.slm",),
        _VLLM_ALONE,
        _engine_has_credentials,
        cel="self.engine == 'vllm' || !has(self.model.credentials)",
        field="model.credentials",
    ),
    Rule(
        "hub-credential-source",
        ("spec.slm.model.credentials",),
        "needs env on one machine, secretName in a cluster: name one, or leave credentials out",
        _usable_hub_credentials,
        cel="has(self.env) || has(self.secretName)",
    ),
    Rule(
        "engine-args-engine",
        ("spec.slm",),
        _VLLM_ALONE,
        _engine_has_arguments,
        cel="self.engine == 'vllm' || size(self.engineArgs) == 0",
        field="engineArgs",
    ),
    Rule(
        "engine-arg-name",
        ("spec.slm.engineArgs.{*}",),
        "is no argument's name: write it as for vllm serve, without dashes before it, such as enforce-eager",
        _legal_argument,
        cel=f"self.all(name, name.matches('^({_ARGUMENT})$'))",
    ),
    Rule(
        "engine-arg-reserved",
        ("spec.slm.engineArgs.{*}",),
        "cannot be set here, because the route sets it itself: remove it, and use model, adapters, contextTokens,"
        " parallelSequences or resources.gpus",
        _free_argument,
        cel=f"self.all(name, !(name in {cel_list(sorted(_RESERVED_ARGUMENTS))}))",
    ),
    Rule(
        "adapters-engine",
        ("spec.slm",),
        _VLLM_ALONE,
        _engine_has_adapters,
        cel="self.engine == 'vllm' || size(self.adapters) == 0",
        field="adapters",
    ),
    Rule(
        "adapter-name",
        ("spec.slm.adapters.{*}",),
        "is no name for an adapter: use 1 to 63 letters, digits, '.', '_' and '-', and not"
        f" {', '.join(_RESERVED_MODELS)}",
        _legal_adapter,
        cel=f"self.all(name, name.matches('^({_ADAPTER})$') && !(name in {cel_list(_RESERVED_MODELS)}))",
    ),
    Rule(
        "adapter-uri",
        ("spec.slm.adapters.{*}",),
        f"is of a kind that vllm does not load: use {_FOLDERS}",
        _adapter_uri,
        cel=(
            f"self.all(name, self[name].matches('{_HUB}') || ((self[name].matches('{_CLAIM}')"
            f" || !self[name].matches('{_SCHEME}')) && !self[name].endsWith('{_GGUF}')))"
        ),
    ),
    Rule(
        "tools-parser",
        ("spec.slm",),
        f"needs engineArgs {TOOL_PARSER_ARGUMENT}, without which vllm refuses tools: name the model's, such as hermes",
        _tools_have_parser,
        cel=f"self.engine != 'vllm' || !self.capabilities.tools || '{TOOL_PARSER_ARGUMENT}' in self.engineArgs",
        field="capabilities.tools",
    ),
    Rule(
        "gpu-price",
        ("spec.slm",),
        'has no gpuHourUSD although resources.gpus is set: add it, for example "0.80", or "0" if GPUs are free',
        _priced_gpus,
        cel="self.resources.gpus == 0 || has(self.pricing.gpuHourUSD)",
        field="pricing",
    ),
    Rule(
        "slm-timeouts",
        ("spec.slm.timeouts",),
        "is longer than total (default 2m), so it would never run out: lower firstByte or raise total",
        _slm_timeouts,
        cel="duration(self.firstByte) <= duration(self.total)",
        field="firstByte",
    ),
)

"""The rules that one field's type cannot say, once, as a table.

Each rule holds for the value at a path of the object: `*` in a path stands for every item of a list, `{*}`
for every entry of a map. Rules are read by the models (`HybridRoute` refuses an object that breaks one), by
`validate`, which adds file and line, and by `crd`, which hands their CEL to the API server; one table of objects
tests that both agree. A message says what to do and never repeats a value, since values can be secrets.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from hybridroute_api.v1alpha1.auth import Auth
from hybridroute_api.v1alpha1.llm import (
    CaBundleRef,
    UpstreamCredentials,
    UpstreamPricing,
    UpstreamSpec,
    UpstreamTimeoutsSpec,
)
from hybridroute_api.v1alpha1.routing import (
    DEFAULT_MAX_RISK,
    Confidence,
    Drift,
    Policy,
    Routing,
    RoutingExamples,
)
from hybridroute_api.v1alpha1.scaling import Scaling
from hybridroute_api.v1alpha1.slm import (
    BUNDLED_MODELS,
    TOOL_PARSER_ARGUMENT,
    Engine,
    HubCredentials,
    Slm,
    SlmTimeouts,
)
from hybridroute_api.v1alpha1.spec import HybridRouteSpec
from hybridroute_api.vocabulary import DriftAction, Mode
from hybridroute_api.windows import parse_window

__all__ = ["RULES", "Rule", "Violation", "broken_rules", "values_at"]

Location = tuple[str | int, ...]
"""Field names as written in the document, list indices and map keys, from the document's root."""

_SCALING_PATHS: Final = ("spec.slm.scaling", "spec.llm.scaling", "spec.routing.scaling")

_RESERVED_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
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
_PORT: Final = (
    "0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"  # 1 to 65535
)
_BASE_URL: Final = re.compile(
    # Scheme, user if any (another rule refuses it), host or bracketed IPv6 address, port, the rest.
    r"^[Hh][Tt][Tt][Pp][Ss]?://([!-.0-~]*@)?"
    r"([!$-.0-9;->A-Z^-~]+|[\[][0-9A-Fa-f:.]+[\]])"
    f"(:({_PORT})?)?([/?#][!-~]*)?$",
    re.ASCII,
)
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,4094}[\x21-\x7e])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that an object breaks, and where."""

    rule_id: str
    location: Location
    message: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `holds` gets the value at each path: a model, a field's value or a `(key, value)` pair."""

    id: str
    paths: tuple[str, ...]
    message: str
    """What to do, without a full stop."""
    holds: Callable[[Any], bool]
    cel: str
    """The same rule for an API server: `self` is the value at the path, or the whole map for a path that ends in
    `{*}`. Defaults are filled in before it runs. Empty where CEL's cost limits forbid it: models alone refuse then.
    """
    field: str = ""
    """Field below the path that the message belongs to, such as `model.uri`; default: the path itself."""
    blames: Callable[[Any], Location] = lambda _: ()
    """The same where it depends on the value that breaks the rule, such as an item of a list."""

    def check(self, location: Location, value: Any) -> Violation | None:
        """Return how the value at a location breaks the rule, or None."""
        if self.holds(value):
            return None
        below = tuple(self.field.split(".")) if self.field else self.blames(value)
        return Violation(self.id, (*location, *below), self.message)


def broken_rules(root: BaseModel) -> tuple[Violation, ...]:
    """Return every rule that the object breaks, in the table's order."""
    checked = (
        rule.check(location, value)
        for rule in RULES
        for path in rule.paths
        for location, value in values_at(root, path)
    )
    return tuple(violation for violation in checked if violation is not None)


def values_at(root: BaseModel, path: str) -> Iterator[tuple[Location, Any]]:
    """Yield each value that a rule's path stands for, with its location; absent parts yield nothing."""
    yield from _descend(root, (), path.split("."))


def _descend(value: Any, location: Location, segments: list[str]) -> Iterator[tuple[Location, Any]]:
    if value is None:
        return
    if not segments:
        yield location, value
        return
    segment, *rest = segments
    if segment == "*":
        for index, item in enumerate(value):
            yield from _descend(item, (*location, index), rest)
    elif segment == "{*}":
        for key, item in value.items():
            yield from _descend((key, item), (*location, key), rest)
    else:
        yield from _descend(getattr(value, _field_name(type(value), segment)), (*location, segment), rest)


def _field_name(model: type[BaseModel], alias: str) -> str:
    for name, field in model.model_fields.items():
        if alias in (field.alias, name):
            return name
    raise LookupError(f"{model.__name__} has no field {alias}")


def _scaling_bounds(scaling: Scaling) -> bool:
    return scaling.min_replicas <= scaling.max_replicas


def _known_window(window: str) -> bool:
    try:
        parse_window(window)
    except ValueError:
        return False
    return True


def _slm_timeouts(timeouts: SlmTimeouts) -> bool:
    return timeouts.first_byte <= timeouts.total


def _upstream_timeouts(timeouts: UpstreamTimeoutsSpec) -> bool:
    return max(timeouts.first_byte, timeouts.connect) <= timeouts.total


def _usable_credential_source(credentials: UpstreamCredentials) -> bool:
    sources = (credentials.env, credentials.file, credentials.secret_name)
    return any(sources) and (credentials.env is None or credentials.file is None)


def _usable_keys_source(auth: Auth) -> bool:
    return auth.api_keys_file is not None or auth.api_keys_secret_name is not None


def _usable_ca_source(source: CaBundleRef) -> bool:
    return (source.config_map_name is None) != (source.secret_name is None)


def _cached_price(pricing: UpstreamPricing) -> bool:
    cached = pricing.cached_input_per_million_tokens_nano_usd
    return cached is None or cached <= pricing.input_per_million_tokens_nano_usd


def _unique_upstream_names(upstreams: tuple[UpstreamSpec, ...]) -> bool:
    return _repeated([upstream.name for upstream in upstreams]) is None


def _repeated_upstream(upstreams: tuple[UpstreamSpec, ...]) -> Location:
    return (_repeated([upstream.name for upstream in upstreams]) or 0, "name")


def _repeated(names: list[str]) -> int | None:
    """Return the index of the first name that an earlier one equals."""
    return next((index for index, name in enumerate(names) if name in names[:index]), None)


def _is_base_url(url: str) -> bool:
    return bool(_BASE_URL.fullmatch(url))


def _bare_base_url(url: str) -> bool:
    authority = url.split("://", 1)[-1].split("/", 1)[0]
    return not any(mark in url for mark in "?#") and "@" not in authority


def _names_no_operation(url: str) -> bool:
    return not url.rstrip("/").endswith(("/chat/completions", "/completions"))


def _legal_header_name(entry: tuple[str, str]) -> bool:
    return bool(_HEADER_NAME.fullmatch(entry[0]))


def _free_header_name(entry: tuple[str, str]) -> bool:
    name = entry[0].lower()
    return name not in _RESERVED_HEADERS and not name.startswith("x-hybridroute-")


def _legal_header_value(entry: tuple[str, str]) -> bool:
    return bool(_HEADER_VALUE.fullmatch(entry[1]))


def _unique_header_names(headers: Mapping[str, str]) -> bool:
    return _repeated([name.lower() for name in headers]) is None


def _repeated_header(headers: Mapping[str, str]) -> Location:
    names = list(headers)
    return (names[_repeated([name.lower() for name in names]) or 0],)


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


def _shadow_has_its_mode(spec: HybridRouteSpec) -> bool:
    return spec.shadow_serve is None or spec.mode is Mode.SHADOW


def _cel_list(words: Iterable[str]) -> str:
    return f"[{', '.join(repr(word) for word in words)}]"


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

_CEL_FILE: Final = f"self.model.uri.matches('{_CLAIM}') || !self.model.uri.matches('{_SCHEME}')"
_VLLM_ALONE: Final = "is for engine vllm alone: set engine to vllm, or remove it"
_FOLDERS: Final = (
    "hf://<organisation>/<model>, the path of a folder in Hugging Face's layout, or pvc://<claim>/<path>"
)

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "shadow-serve-unused",
        ("spec",),
        "is used by mode Shadow alone: set mode to Shadow, or leave it out",
        _shadow_has_its_mode,
        cel="!has(self.shadowServe) || self.mode == 'Shadow'",
        field="shadowServe",
    ),
    Rule(
        "scaling-bounds",
        _SCALING_PATHS,
        "is below minReplicas: raise maxReplicas (default 1) or lower minReplicas",
        _scaling_bounds,
        cel="self.minReplicas <= self.maxReplicas",
        field="maxReplicas",
    ),
    Rule(
        "model-scheme",
        ("spec.slm",),
        f"is of a kind that llamacpp does not read: use {' or '.join(BUNDLED_MODELS)}, the path of a .gguf file, or"
        " pvc://<claim>/<path>.gguf",
        _llamacpp_scheme,
        cel=f"self.engine != 'llamacpp' || self.model.uri in {_cel_list(BUNDLED_MODELS)} || {_CEL_FILE}",
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
        cel=f"self.all(name, !(name in {_cel_list(sorted(_RESERVED_ARGUMENTS))}))",
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
        cel=f"self.all(name, name.matches('^({_ADAPTER})$') && !(name in {_cel_list(_RESERVED_MODELS)}))",
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
    Rule(
        "budget-window",
        ("spec.budget.window",),
        "is no window: write a length such as 24h, 90m or 7d (rolling), or 1d@<time zone>, month or month@<time zone>"
        " (calendar)",
        _known_window,
        # The zone's name is left to the models: the API server knows no list of zones.
        cel="self.matches('^([1-9][0-9]{0,4}[mhd]|(1d|month)(@[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*)?)$')",
    ),
    Rule(
        "upstream-names",
        ("spec.llm.upstreams",),
        "is the name of an upstream before it: give each upstream a name of its own",
        _unique_upstream_names,
        cel="self.all(a, self.exists_one(b, b.name == a.name))",
        blames=_repeated_upstream,
    ),
    Rule(
        "upstream-name-reserved",
        ("spec.llm.upstreams.*.name",),
        "is reserved for the small language model in records and metrics: choose another name than slm",
        lambda name: name != "slm",
        cel="self != 'slm'",
    ),
    Rule(
        "base-url",
        ("spec.llm.upstreams.*.baseURL",),
        "must be a full http or https address, for example https://api.openai.com/v1",
        _is_base_url,
        cel=f"self.matches(r'{_BASE_URL.pattern}')",
    ),
    Rule(
        "base-url-bare",
        ("spec.llm.upstreams.*.baseURL",),
        "must not hold a user, password, query or fragment: put a key under credentials, the rest under headers",
        _bare_base_url,
        cel=r"!self.matches('[?#]') && !self.matches('^([^/:]*://)?[^/]*@')",
    ),
    Rule(
        "base-url-operation",
        ("spec.llm.upstreams.*.baseURL",),
        "must end with the version segment, as in https://provider/v1: leave out the operation's path",
        _names_no_operation,
        cel="!self.matches('/completions/*$')",
    ),
    Rule(
        "credential-source",
        ("spec.llm.upstreams.*.credentials",),
        "needs env or file on one machine, secretName in a cluster: keep one of env and file, or leave credentials out",
        _usable_credential_source,
        cel="!(has(self.env) && has(self.file)) && (has(self.env) || has(self.file) || has(self.secretName))",
    ),
    Rule(
        "ca-bundle-source",
        ("spec.llm.upstreams.*.caBundleRef",),
        "needs one of configMapName and secretName: name the object that holds the bundle",
        _usable_ca_source,
        cel="has(self.configMapName) != has(self.secretName)",
    ),
    Rule(
        "auth-source",
        ("spec.auth",),
        "needs apiKeysFile on one machine, apiKeysSecretName in a cluster: name one, or leave auth out",
        _usable_keys_source,
        cel="has(self.apiKeysFile) || has(self.apiKeysSecretName)",
    ),
    Rule(
        "header-name",
        ("spec.llm.upstreams.*.headers.{*}",),
        "is not a legal header name: use letters, digits and '-', at most 128 characters",
        _legal_header_name,
        cel=f'self.all(name, name.matches("^({_HEADER_NAME.pattern})$"))',
    ),
    Rule(
        "header-reserved",
        ("spec.llm.upstreams.*.headers.{*}",),
        "cannot be set here, because the proxy sets it itself: remove it; an API key belongs under credentials",
        _free_header_name,
        cel=(
            f"self.all(name, !(name.lowerAscii() in {_cel_list(sorted(_RESERVED_HEADERS))})"
            " && !name.lowerAscii().startsWith('x-hybridroute-'))"
        ),
    ),
    Rule(
        "header-value",
        ("spec.llm.upstreams.*.headers.{*}",),
        "has a value that HTTP cannot carry: use 1 to 4096 printable ASCII characters, no spaces around them",
        _legal_header_value,
        cel=r"self.all(name, self[name].matches('^[!-~]([ -~]*[!-~])?$'))",
    ),
    Rule(
        "header-names-unique",
        ("spec.llm.upstreams.*.headers",),
        "is there twice, in different case: keep one of them",
        _unique_header_names,
        cel="self.all(a, self.exists_one(b, a.lowerAscii() == b.lowerAscii()))",
        blames=_repeated_header,
    ),
    Rule(
        "cached-price",
        ("spec.llm.upstreams.*.pricing",),
        "is above inputPerMillionTokensUSD, but cached tokens never cost more than fresh ones: check both",
        _cached_price,
        cel=(
            "!has(self.cachedInputPerMillionTokensUSD)"
            " || double(self.cachedInputPerMillionTokensUSD) <= double(self.inputPerMillionTokensUSD)"
        ),
        field="cachedInputPerMillionTokensUSD",
    ),
    Rule(
        "upstream-timeouts",
        ("spec.llm.upstreams.*.timeouts",),
        "is below connect (default 2s) or firstByte (default 20s), which would never run out: raise total",
        _upstream_timeouts,
        cel=(
            "duration(self.connect) <= duration(self.total) && duration(self.firstByte) <= duration(self.total)"
        ),
        field="total",
    ),
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
"""Every rule. The order is the order of the object's fields."""

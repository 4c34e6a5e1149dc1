"""Rules of `spec.llm`: upstreams, their addresses, headers, credentials and prices."""

import re
from collections.abc import Mapping
from typing import Final

from hybridroute_api.v1alpha1.llm import (
    CaBundleRef,
    UpstreamCredentials,
    UpstreamPricing,
    UpstreamSpec,
    UpstreamTimeoutsSpec,
)
from hybridroute_api.v1alpha1.rules.rule import Location, Rule, cel_list

__all__ = ["LLM_RULES"]

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


def _upstream_timeouts(timeouts: UpstreamTimeoutsSpec) -> bool:
    return max(timeouts.first_byte, timeouts.connect) <= timeouts.total


def _usable_credential_source(credentials: UpstreamCredentials) -> bool:
    sources = (credentials.env, credentials.file, credentials.secret_name)
    return any(sources) and (credentials.env is None or credentials.file is None)


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


LLM_RULES: Final[tuple[Rule, ...]] = (
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
            f"self.all(name, !(name.lowerAscii() in {cel_list(sorted(_RESERVED_HEADERS))})"
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
)

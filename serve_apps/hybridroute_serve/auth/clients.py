"""The clients file: who may ask, with which keys, how often, and for how many dollars.

A YAML list, one item a client:

    - name: support-bot
      keys: ["sk-..."]            # or keyHashes: [sha256 in hexadecimal]; both may be given
      localOnly: false            # true: what it sends never leaves the SLM
      requestsPerMinute: 600      # absent: no limit
      tokensPerMinute: 200000
      budget: {limitUSD: "5.00", window: 24h}   # on top of the route's own

Keys are hashed as soon as they are read and are in no value that leaves this module. Messages name the line and the
field and say what it must be; they never repeat anything that the file holds, because that may be a key.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
)
from pydantic.alias_generators import to_camel

from hybridroute_api.quantities import NanoUsd
from hybridroute_api.windows import parse_window
from hybridroute_serve.budgets.accounts import AccountTerms

__all__ = ["Client", "ClientsFileError", "digest_key", "parse_clients", "read_clients"]

_MAX_SHOWN = 5
_KEY = re.compile(r"[!-~]{16,512}")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"

_MUST_BE: Final = {
    "name": "must be 1 to 63 letters, digits, '.', '_' or '-', and begin with a letter or digit",
    "keys": "must be a list of keys, each of 16 to 512 printable ASCII characters without blanks, as text in quotes",
    "keyHashes": "must be a list of SHA-256 digests, each of 64 hexadecimal digits, as text in quotes",
    "localOnly": "must be true or false",
    "requestsPerMinute": "must be a whole number from 1 to 1000000",
    "tokensPerMinute": "must be a whole number from 1 to 1000000000",
    "budget": "must be a map with limitUSD and, if it is not 24h, window",
    "limitUSD": 'must be dollars in quotes, for example "2.50"',
    "window": "must be a length such as 24h, 90m or 7d, or 1d@<time zone>, month or month@<time zone>",
}
_CLIENT_FIELDS: Final = "name, keys, keyHashes, localOnly, requestsPerMinute, tokensPerMinute and budget"

_Location = tuple[str | int, ...]


class ClientsFileError(Exception):
    """The file cannot be used. The message is for the operator and holds nothing of the file's content."""


@dataclass(frozen=True, slots=True)
class Client:
    """One client of the route."""

    name: str
    """Unique in the file; what records and metrics show."""
    key_digests: tuple[bytes, ...] = field(repr=False)
    """SHA-256 of each of its keys; several while a key is being replaced."""
    local_only: bool = False
    """True: its requests never leave the SLM."""
    requests_per_minute: int | None = None
    """None: no limit."""
    tokens_per_minute: int | None = None
    budget: AccountTerms | None = None
    """What its requests may cost on the LLM path, on top of the route's own budget."""


def digest_key(key: str) -> bytes:
    """Return what is kept of a key. Keys are random, so a plain hash says nothing about them."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def read_clients(path: str | Path) -> tuple[Client, ...]:
    """Read the file. Raises `ClientsFileError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ClientsFileError(f"{path}: cannot be read: {type(error).__name__}") from None
    try:
        return parse_clients(text)
    except ClientsFileError as error:
        # The cause is dropped: its text may show a part of the file.
        raise ClientsFileError(f"{path}: {error}") from None


def parse_clients(text: str) -> tuple[Client, ...]:
    """Return the clients that the text lists, in its order. Raises `ClientsFileError`."""
    items, lines = _parse_yaml(text)
    if not isinstance(items, list) or not items:
        raise ClientsFileError("line 1: must be a list of clients, with at least one")
    try:
        specs = _ClientsSpec.model_validate({"clients": items}).clients
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        problems = [_explain(item["type"], item["loc"][1:], lines) for item in found[:_MAX_SHOWN]]
        more = [f"and {len(found) - _MAX_SHOWN} more"] if len(found) > _MAX_SHOWN else []
        raise ClientsFileError("; ".join([*dict.fromkeys(problems), *more])) from None
    clients = tuple(spec.to_client() for spec in specs)
    _check_together(clients, specs, lines)
    return clients


class _Spec(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, hide_input_in_errors=True
    )


class _BudgetSpec(_Spec):
    limit_nano_usd: NanoUsd = Field(alias="limitUSD", ge=0, le=10**18)
    window: StrictStr = "24h"

    @field_validator("window")
    @classmethod
    def _is_window(cls, window: str) -> str:
        parse_window(window)
        return window

    def to_terms(self) -> AccountTerms:
        return AccountTerms(self.limit_nano_usd, self.window)


class _ClientSpec(_Spec):
    name: StrictStr = Field(pattern=_NAME)
    keys: tuple[StrictStr, ...] = ()
    key_hashes: tuple[StrictStr, ...] = ()
    local_only: StrictBool = False
    requests_per_minute: StrictInt | None = Field(default=None, ge=1, le=10**6)
    tokens_per_minute: StrictInt | None = Field(default=None, ge=1, le=10**9)
    budget: _BudgetSpec | None = None

    @field_validator("keys")
    @classmethod
    def _are_keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        return _all_match(_KEY, keys)

    @field_validator("key_hashes")
    @classmethod
    def _are_hashes(cls, hashes: tuple[str, ...]) -> tuple[str, ...]:
        return _all_match(_HASH, hashes)

    def to_client(self) -> Client:
        digests = (*map(digest_key, self.keys), *map(bytes.fromhex, self.key_hashes))
        return Client(
            name=self.name,
            key_digests=tuple(dict.fromkeys(digests)),
            local_only=self.local_only,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            budget=self.budget.to_terms() if self.budget else None,
        )


class _ClientsSpec(_Spec):
    clients: tuple[_ClientSpec, ...]


def _all_match(pattern: re.Pattern[str], texts: tuple[str, ...]) -> tuple[str, ...]:
    if not all(pattern.fullmatch(text) for text in texts):
        raise ValueError("malformed")
    return texts


def _explain(kind: str, location: _Location, lines: dict[_Location, int]) -> str:
    """Say what is wrong by where it is: a message of pydantic's would quote the value."""
    line = _line_of(location, lines)
    names = [part for part in location if isinstance(part, str)]
    if kind == "extra_forbidden":
        known = "limitUSD and window" if len(names) > 1 else _CLIENT_FIELDS
        return f"line {line}: holds an unknown field; known are {known}"
    if not names:
        return f"line {line}: must be a client, a map with a name and keys"
    text = "is required" if kind == "missing" else _MUST_BE[names[-1]]
    return f"line {line}: {'.'.join(names)} {text}"


def _check_together(
    clients: tuple[Client, ...], specs: tuple[_ClientSpec, ...], lines: dict[_Location, int]
) -> None:
    names: set[str] = set()
    digests: set[bytes] = set()
    for index, (client, spec) in enumerate(zip(clients, specs, strict=True)):
        line = f"line {_line_of((index,), lines)}:"
        if not client.key_digests:
            raise ClientsFileError(f"{line} a client needs keys or keyHashes")
        if client.name in names:
            raise ClientsFileError(f"{line} name is that of another client")
        if client.name in spec.keys:
            raise ClientsFileError(f"{line} name is one of its keys, and names are shown")
        if not digests.isdisjoint(client.key_digests):
            raise ClientsFileError(f"{line} a key is also that of another client")
        if client.local_only and client.budget is not None:
            raise ClientsFileError(f"{line} budget has no effect, because a localOnly client costs nothing")
        names.add(client.name)
        digests.update(client.key_digests)


def _line_of(location: _Location, lines: dict[_Location, int]) -> int:
    while location and location not in lines:
        location = location[:-1]
    return lines.get(location, 1)


def _parse_yaml(text: str) -> tuple[Any, dict[_Location, int]]:
    tree = _Tree()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return (None if node is None else tree.read(node, ())), tree.lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ClientsFileError(f"line {line}: is not valid YAML") from None
    except (yaml.YAMLError, RecursionError):
        raise ClientsFileError("line 1: is not valid YAML") from None


@dataclass(slots=True)
class _Tree:
    """Turns nodes into plain values and notes their lines."""

    lines: dict[_Location, int] = field(default_factory=dict)
    _constructor: yaml.SafeLoader = field(default_factory=lambda: yaml.SafeLoader(""))

    def read(self, node: yaml.Node, location: _Location) -> Any:
        self.lines[location] = line = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*location, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, location)
        try:
            return self._constructor.construct_object(node)
        except (ValueError, KeyError, OverflowError, yaml.YAMLError):
            message = f"line {line}: holds a value that YAML cannot read; put it in quotes"
            raise ClientsFileError(message) from None

    def _read_mapping(self, node: yaml.MappingNode, location: _Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ClientsFileError(f"line {line}: a field's name must be text")
            if key.value in values:
                raise ClientsFileError(f"line {line}: a field is given twice")
            values[key.value] = self.read(value, (*location, key.value))
        return values

"""The clients file: what is read, what is refused, and that no message repeats what the file holds."""

import hashlib
import re

import pytest

from hybridroute_serve.auth.clients import Client, ClientsFileError, digest_key, parse_clients, read_clients
from hybridroute_serve.budgets.accounts import AccountTerms

KEY = "sk-0123456789abcdef"
OTHER = "sk-fedcba9876543210"
HASH = hashlib.sha256(OTHER.encode()).hexdigest()


def test_every_field_is_read(tmp_path):
    file = tmp_path / "clients.yaml"
    file.write_text(
        f"""
- name: bot
  keys: ["{KEY}"]
  keyHashes: [{HASH}]
  requestsPerMinute: 60
  tokensPerMinute: 1000
  budget: {{limitUSD: "2.50", window: month@Europe/Berlin}}
- {{name: clinic, keys: [sk-aaaaaaaaaaaaaaaa], localOnly: true}}
"""
    )

    clients = read_clients(file)

    assert clients == (
        Client(
            "bot",
            (digest_key(KEY), digest_key(OTHER)),
            requests_per_minute=60,
            tokens_per_minute=1000,
            budget=AccountTerms(2_500_000_000, "month@Europe/Berlin"),
        ),
        Client("clinic", (digest_key("sk-aaaaaaaaaaaaaaaa"),), local_only=True),
    )


def test_a_budget_is_good_for_24_hours_by_default():
    (client,) = parse_clients(f'- {{name: a, keys: ["{KEY}"], budget: {{limitUSD: "1"}}}}')

    assert client.budget == AccountTerms(1_000_000_000, "24h")


def test_a_clients_repr_shows_neither_keys_nor_digests():
    (client,) = parse_clients(f'- {{name: a, keys: ["{KEY}"]}}')

    assert repr(client).count("key") == 0
    assert KEY not in repr(client)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: must be a list of clients"),
        ("[]", "line 1: must be a list of clients"),
        (f"{KEY}: {KEY}", "line 1: must be a list of clients"),
        (f"- {KEY}", "line 1: must be a client, a map with a name and keys"),
        (f"- name: a\n  keys: {KEY}", "line 2: keys must be a list of keys"),
        ("- name: a\n  keys: [short]", "line 2: keys must be a list of keys"),
        (f"- name: a\n  keys: ['{KEY} {KEY}']", "line 2: keys must be a list of keys"),
        ("- name: a\n  keys: [12345678901234567890]", "line 2: keys must be .* in quotes"),
        (f"- name: a\n  keyHashes: [{KEY}]", "line 2: keyHashes must be a list of SHA-256 digests"),
        (f"- keys: ['{KEY}']", "line 1: name is required"),
        (f"- name: {KEY} {KEY}\n  keys: ['{KEY}']", "line 1: name must be 1 to 63"),
        (f"- name: {KEY}\n  keys: ['{KEY}']", "line 1: name is one of its keys"),
        ("- name: a", "line 1: a client needs keys or keyHashes"),
        (f"- name: a\n  {KEY}: 1\n  keys: ['{KEY}']", "line 2: holds an unknown field; known are name,"),
        (f"- name: a\n  keys: ['{KEY}']\n  localOnly: {KEY}", "line 3: localOnly must be true or false"),
        (f"- name: a\n  keys: ['{KEY}']\n  requestsPerMinute: 0", "line 3: requestsPerMinute must be"),
        (f"- name: a\n  keys: ['{KEY}']\n  tokensPerMinute: 1.5", "line 3: tokensPerMinute must be"),
        (f"- name: a\n  keys: ['{KEY}']\n  budget:\n    limitUSD: {KEY}", "line 4: budget.limitUSD must be"),
        (f"- name: a\n  keys: ['{KEY}']\n  budget:\n    limitUSD: 2.5", "line 4: budget.limitUSD must be"),
        (f"- name: a\n  keys: ['{KEY}']\n  budget:\n    window: 1h", "line 4: budget.limitUSD is required"),
        (
            f"- name: a\n  keys: ['{KEY}']\n  budget:\n    limitUSD: '1'\n    window: {KEY}",
            "line 5: budget.window must be a length",
        ),
        (
            f"- name: a\n  keys: ['{KEY}']\n  budget: {{limitUSD: '1', {KEY}: 1}}",
            "line 3: holds an unknown field; known are limitUSD and window",
        ),
        (
            f"- name: a\n  localOnly: true\n  keys: ['{KEY}']\n  budget: {{limitUSD: '1'}}",
            "line 1: budget has no effect",
        ),
        (
            f"- {{name: a, keys: ['{KEY}']}}\n- {{name: a, keys: ['{OTHER}']}}",
            "line 2: name is that of another",
        ),
        (
            f"- {{name: a, keys: ['{OTHER}']}}\n- {{name: b, keyHashes: [{HASH}]}}",
            "line 2: a key is also that",
        ),
        (f"- name: a\n  keys: ['{KEY}']\n  keys: ['{OTHER}']", "line 3: a field is given twice"),
        (f"- name: a\n  keys: [*{KEY}]", "line 2: is not valid YAML"),
        (f"- name: a\n  keys: ['{KEY}", "line 2: is not valid YAML"),
        (f"- name: a\n  keys: [!{KEY} b]", "line 2: holds a value that YAML cannot read"),
        (f"- ? [{KEY}]\n  : 1", "line 1: a field's name must be text"),
        ("[" * 5000, "line 1: is not valid YAML"),
        (f"- name: a\n  keys: ['{KEY}\x01']", "line 1: is not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_by_line_and_field_and_never_by_content(text, message):
    with pytest.raises(ClientsFileError, match=f"^{message}") as caught:
        parse_clients(text)

    said = f"{caught.value!s} {caught.value!r} {caught.value.__cause__!r}"
    assert not re.search("sk-|0123456789abcdef|12345678", said)


def test_several_problems_are_said_at_once():
    with pytest.raises(ClientsFileError) as caught:
        parse_clients("- name: a\n  keys: [x]\n  localOnly: 1\n- keys: 1")

    assert [part.partition(":")[0] for part in str(caught.value).split("; ")] == [
        "line 2",
        "line 3",
        "line 4",
        "line 4",
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ClientsFileError, match=r"missing.yaml: cannot be read: FileNotFoundError"):
        read_clients(tmp_path / "missing.yaml")

    broken = tmp_path / "broken.yaml"
    broken.write_text("- 1")
    with pytest.raises(ClientsFileError, match=r"broken.yaml: line 1: must be a client"):
        read_clients(broken)

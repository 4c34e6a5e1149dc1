"""Keys are found without comparing them, and a changed file is in force at the next refresh."""

import ast
import inspect
import logging
import os
from pathlib import Path

import pytest

from hybridroute_serve.auth import keyring as module
from hybridroute_serve.auth.clients import Client, digest_key
from hybridroute_serve.auth.keyring import Keyring, KeyringFile

BLIND = b"b" * 32
A, B, C = ("sk-aaaaaaaaaaaaaaaa", "sk-bbbbbbbbbbbbbbbb", "sk-cccccccccccccccc")


def write(path: Path, text: str, *, second: int) -> None:
    path.write_text(text)
    os.utime(path, (second, second))


def clients_of(name: str, *keys: str) -> str:
    return f"- {{name: {name}, keys: [{', '.join(keys)}]}}"


def test_each_key_of_a_client_finds_it_and_no_other_does():
    bot = Client("bot", (digest_key(A), digest_key(B)))
    clinic = Client("clinic", (digest_key(C),))
    keyring = Keyring([bot, clinic], BLIND)

    assert [keyring.find_client(key) for key in (A, B, C)] == [bot, bot, clinic]
    assert [keyring.find_client(key) for key in ("", A[:-1], A + "x", A.upper(), "\udcff", "ключ")] == [
        None
    ] * 6


def test_what_is_compared_is_neither_a_key_nor_its_digest():
    held = vars(Keyring([Client("bot", (digest_key(A),))], BLIND))["_clients"]
    other = vars(Keyring([Client("bot", (digest_key(A),))], b"o" * 32))["_clients"]

    assert digest_key(A) not in held
    assert A.encode() not in held
    assert held.keys().isdisjoint(other)


def test_no_key_or_digest_is_compared_with_an_operator():
    tree = ast.parse(inspect.getsource(module.Keyring))

    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]


async def test_a_rotated_key_is_good_and_the_old_one_is_not(tmp_path):
    path = tmp_path / "clients.yaml"
    write(path, clients_of("bot", A), second=1)
    file = KeyringFile(str(path), blind=BLIND)
    await file.refresh()
    write(path, clients_of("bot", A, B), second=2)
    await file.refresh()
    both = [file.keyring.find_client(key).name for key in (A, B)]
    write(path, clients_of("bot", B), second=3)
    await file.refresh()

    assert both == ["bot", "bot"]
    assert file.keyring.find_client(A) is None
    assert file.keyring.find_client(B).name == "bot"


async def test_an_unchanged_file_is_not_read_again(tmp_path):
    path = tmp_path / "clients.yaml"
    write(path, clients_of("bot", A), second=1)
    file = KeyringFile(str(path), blind=BLIND)
    await file.refresh()
    before = file.keyring
    await file.refresh()

    assert file.keyring is before


@pytest.mark.parametrize("broken", ["", "- name: bot", f"- {{name: bot, keys: [{C}", None])
async def test_a_broken_file_keeps_the_last_good_keyring_and_says_so_once(tmp_path, caplog, broken):
    caplog.set_level(logging.WARNING)
    path = tmp_path / "clients.yaml"
    write(path, clients_of("bot", A), second=1)
    file = KeyringFile(str(path), blind=BLIND)
    await file.refresh()
    if broken is None:
        path.unlink()
    else:
        write(path, broken, second=2)
    await file.refresh()
    await file.refresh()

    assert file.keyring.find_client(A).name == "bot"
    assert file.problem is not None
    assert str(path) in file.problem
    assert len(caplog.messages) == 1
    assert C not in caplog.text

    write(path, clients_of("bot", B), second=3)
    await file.refresh()

    assert file.problem is None
    assert file.keyring.find_client(A) is None


async def test_without_a_last_good_keyring_there_is_none(tmp_path):
    file = KeyringFile(str(tmp_path / "missing.yaml"), blind=BLIND)
    await file.refresh()

    assert file.keyring is None
    assert "cannot be read" in file.problem

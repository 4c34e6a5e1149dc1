"""An SLM's pod that stops: nothing new comes in, and what is being answered ends first."""

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybridroute_serve.drain import SETTLE_SECONDS, drain, main, parse_sessions

HEAD = "# pxname,svname,qcur,qmax,scur,smax,"


def table(*rows: tuple[str, str, int]) -> str:
    lines = [f"{proxy},{server},0,0,{sessions},9," for proxy, server, sessions in rows]
    return "\n".join([HEAD, *lines, ""])


class FakeHaproxy:
    """Answers the two commands that are used; its requests end one by one as time goes on."""

    def __init__(self, sessions: list[int]) -> None:
        self.now = 0.0
        self.drained: list[str] = []
        self.sessions = sessions

    def ask(self, command: str) -> str:
        if found := re.fullmatch(r"set server (\S+) state drain", command):
            self.drained.append(found[1])
            return "\n"
        assert command == "show stat"
        current = self.sessions.pop(0) if len(self.sessions) > 1 else self.sessions[0]
        return table(("http-slm", "a", current), ("http-slm", "backup", 0), ("http-llm", "b", 7))

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_sessions_are_those_of_the_backends_servers() -> None:
    read = parse_sessions(
        table(("http-slm", "a", 2), ("http-slm", "BACKEND", 2), ("http-router", "b", 3)), "http-slm"
    )
    assert read == {"a": 2}


def test_it_waits_for_requests_to_end() -> None:
    haproxy = FakeHaproxy([2] * 40 + [1] * 40 + [0])
    assert drain(haproxy.ask, "slm", seconds=120, clock=haproxy.clock, sleep=haproxy.sleep)
    assert haproxy.drained == ["http-slm/a", "http-slm/backup"]
    assert 15 < haproxy.now < 20


def test_an_idle_pod_waits_until_routers_have_looked() -> None:
    haproxy = FakeHaproxy([0])
    assert drain(haproxy.ask, "slm", seconds=120, clock=haproxy.clock, sleep=haproxy.sleep)
    assert SETTLE_SECONDS <= haproxy.now < SETTLE_SECONDS + 1


def test_it_waits_no_longer_than_it_may() -> None:
    haproxy = FakeHaproxy([1])
    assert not drain(haproxy.ask, "slm", seconds=10, clock=haproxy.clock, sleep=haproxy.sleep)
    assert 10 <= haproxy.now < 11


@pytest.fixture
def admin_socket(tmp_path: Path) -> Iterator[list[str]]:
    """HAProxy's admin socket: one command a connection, then it closes."""
    heard: list[str] = []
    folder = tmp_path / "haproxy-serve" / "node"
    folder.mkdir(parents=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "admin.sock"))
    server.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(4096).decode().strip())
                connection.sendall(table(("http-slm", "a", 0)).encode())

    thread = threading.Thread(target=serve)
    thread.start()
    yield heard
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_the_program_talks_to_the_socket(tmp_path: Path, admin_socket: list[str]) -> None:
    assert main(["slm", "--seconds=30"], root=tmp_path) == 0
    assert admin_socket[:2] == ["show stat", "set server http-slm/a state drain"]
    assert set(admin_socket[2:]) == {"show stat"}


def test_a_node_that_serves_nothing_stops_at_once(tmp_path: Path) -> None:
    assert main(["slm", "--seconds=30"], root=tmp_path) == 0


def test_an_haproxy_that_is_gone_is_no_reason_to_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "haproxy-serve" / "node"
    folder.mkdir(parents=True)
    (folder / "admin.sock").touch()
    assert main(["slm", "--seconds=30"], root=tmp_path) == 0
    assert "did not answer" in capsys.readouterr().err

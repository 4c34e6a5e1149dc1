"""The directory of one route on one machine: what `up` writes and the other commands read.

Layout below `<home>/<route>/`: `run.json` (the running instance), `phase.json` (what the supervisor is doing),
`serve.json` (desired Serve config), `live.json` (live policy), `secrets/` (0700), `journal/`, `state/` (the keeper's
store), `supervisor.log`. State and journal survive `down`; the rest describes the instance that runs.
"""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hybridroute_api.serving import DATABASE_NAME
from hybridroute_render.placement import ServePorts

__all__ = ["Phase", "Run", "RunDirectory", "home_directory"]


def home_directory(environ: dict[str, str] | os._Environ[str] = os.environ) -> Path:
    """`$HYBRIDROUTE_HOME`, else `$XDG_STATE_HOME/hybridroute`, else `~/.local/state/hybridroute`."""
    if home := environ.get("HYBRIDROUTE_HOME"):
        return Path(home)
    base = environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "hybridroute"


@dataclass(frozen=True, slots=True)
class Run:
    """One running instance."""

    run_id: str
    """Stands in the environment of every process of the instance, which is how they are found."""
    route: str
    url: str
    ports: ServePorts
    supervisor_pid: int
    started_at: float
    ray_dir: str
    stand_in: bool


@dataclass(frozen=True, slots=True)
class Phase:
    """What the supervisor is doing."""

    name: str
    """`starting`, `deploying`, `serving`, `stopping`, `failed`."""
    detail: str = ""
    applications: dict[str, str] | None = None
    """Application name → Serve's status."""


class RunDirectory:
    """Paths and small documents of one route."""

    def __init__(self, home: Path, route: str) -> None:
        self.root = home / route
        self.run_file = self.root / "run.json"
        self.phase_file = self.root / "phase.json"
        self.serve_file = self.root / "serve.json"
        self.live_file = self.root / "live.json"
        self.secrets_dir = self.root / "secrets"
        self.token_file = self.secrets_dir / "internal-token"
        self.metrics_token_file = self.secrets_dir / "metrics-token"
        self.hub_token_file = self.secrets_dir / "hub-token"
        self.journal_dir = self.root / "journal"
        self.state_dir = self.root / "state"
        self.records_file = self.state_dir / DATABASE_NAME
        self.log_file = self.root / "supervisor.log"

    def prepare(self) -> None:
        """Create the directories and, where absent, the two tokens."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in (self.secrets_dir, self.journal_dir, self.state_dir):
            directory.mkdir(mode=0o700, exist_ok=True)
        for token_file in (self.token_file, self.metrics_token_file):
            if not token_file.exists():
                self.write_secret(token_file, secrets.token_urlsafe(32))

    def write_secret(self, path: Path, value: str) -> None:
        """Write a file that only the owner can read, atomically."""
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(value)
        temporary.replace(path)

    def write_json(self, path: Path, document: Any) -> bool:
        """Write atomically; False and untouched when the content is the same already."""
        text = json.dumps(document, indent=2, sort_keys=True)
        if path.exists() and path.read_text() == text:
            return False
        temporary = path.with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(path)
        return True

    def write_run(self, run: Run) -> None:
        """Publish the running instance."""
        self.write_json(self.run_file, asdict(run))

    def read_run(self) -> Run | None:
        """The instance that was started last and not taken down."""
        document = _read_json(self.run_file)
        if document is None:
            return None
        return Run(**{**document, "ports": ServePorts(**document["ports"])})

    def write_phase(self, phase: Phase) -> None:
        """Publish what the supervisor is doing."""
        self.write_json(self.phase_file, asdict(phase))

    def read_phase(self) -> Phase | None:
        """What the supervisor said last."""
        document = _read_json(self.phase_file)
        return None if document is None else Phase(**document)

    def read_token(self) -> str:
        """The internal token."""
        return self.token_file.read_text().strip()

    def read_metrics_token(self) -> str:
        """The token that is good for metrics alone."""
        return self.metrics_token_file.read_text().strip()

    def forget_run(self) -> None:
        """Remove what described the instance."""
        for path in (self.run_file, self.phase_file):
            path.unlink(missing_ok=True)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None

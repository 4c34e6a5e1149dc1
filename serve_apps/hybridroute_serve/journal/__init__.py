"""What a replica reports survives its death: a journal on disk, shipped to the keeper."""

from hybridroute_serve.journal.journal import Journal
from hybridroute_serve.journal.reporter import Reporter, ReporterSettings, Vitals
from hybridroute_serve.journal.transport import BATCH_PATH

__all__ = ["BATCH_PATH", "Journal", "Reporter", "ReporterSettings", "Vitals"]

"""What a replica reports survives its death: a journal on disk, shipped to the keeper."""

from hybridroute_serve.journal.journal import Journal
from hybridroute_serve.journal.reporter import JOURNAL_ERRORS_FACT, Reporter, ReporterSettings, Vitals
from hybridroute_serve.journal.transport import BATCH_PATH

__all__ = ["BATCH_PATH", "JOURNAL_ERRORS_FACT", "Journal", "Reporter", "ReporterSettings", "Vitals"]

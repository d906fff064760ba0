"""The data of a run: split as its config says, and summed up."""

from recae.data.interactions import Interactions
from recae.data.protocols import split as split_data
from recae.data.split import Split
from recae.experiment.config import RunConfig


def make_split(data: Interactions, config: RunConfig) -> Split:
    """Split of `data` that `config` asks for."""
    return split_data(data, config.protocol, **dict(config.split))


def data_summary(data: Interactions) -> dict[str, object]:
    """Counts and fingerprint of `data`, with its read report, as JSON values."""
    return {
        "users": data.n_users,
        "items": data.n_items,
        "interactions": int(data.matrix.nnz),
        "fingerprint": data.fingerprint(),
        "report": None if data.report is None else data.report.to_json(),
    }

"""`Settings`: every limit and choice of the application, in one place."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final

from recae.errors import ConfigError

_NAME: Final = re.compile(r"[a-z0-9._-]+")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits and choices of the HTTP application.

    Attributes
    ----------
    max_k
        Longest list that may be asked for. A list without seen items tells what was seen, so
        keep it well below the size of the catalogue.
    unknown_user
        What an unknown user gets where the request does not say: ``"error"`` is 404,
        ``"popular"`` the most popular items, marked as such.
    max_body_bytes
        Longest request body.
    max_batch
        Most requests in one batch.
    max_history
        Most ids in one list of a request: ``history``, ``exclude`` or ``candidates``.
    max_id_length
        Longest id, in characters.
    key_file
        File of API keys (`recae_api.keys`); None serves everybody.
    allow_hosts
        Names, in lower case and without port, that a request from this machine may have as its
        host beside ``localhost``: those of a proxy that passes its own on. Keys make it any name.

    Raises
    ------
    ConfigError
        If a limit is below 1, or a name of a host is none.
    """

    max_k: int = 100
    unknown_user: Literal["error", "popular"] = "error"
    max_body_bytes: int = 64 * 1024
    max_batch: int = 100
    max_history: int = 1000
    max_id_length: int = 4096
    key_file: Path | None = None
    allow_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_k", "max_body_bytes", "max_batch", "max_history", "max_id_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; at least 1 is accepted")
        if self.unknown_user not in {"error", "popular"}:
            raise ConfigError(
                f"unknown_user is {self.unknown_user!r}; 'error' and 'popular' are accepted"
            )
        for name in self.allow_hosts:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"host {name!r} is no name; lower case without scheme and port is accepted"
                )

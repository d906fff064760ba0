"""`split`: a protocol by name."""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType

from recae.data.interactions import Interactions
from recae.data.matrices import Matrix, interactions_of
from recae.data.protocols.base import SplitProtocol
from recae.data.protocols.column import Column
from recae.data.protocols.everyone import Everyone
from recae.data.protocols.leave_last import LeaveLast
from recae.data.protocols.mult_vae import MultVAESplit
from recae.data.protocols.random_rows import RandomRows
from recae.data.protocols.strong import Strong
from recae.data.protocols.temporal import Temporal
from recae.data.split import Split
from recae.errors import ConfigError

PROTOCOLS: Mapping[str, type[SplitProtocol]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (Strong, MultVAESplit, RandomRows, LeaveLast, Temporal, Column, Everyone)
    }
)


def protocol_class(name: object) -> type[SplitProtocol]:
    """Class of the protocol called `name`, whose fields are its options.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if not isinstance(name, str) or name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {name!r}; known are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def split(
    data: Interactions | Matrix,
    protocol: str = "strong",
    *,
    rng: int | None = None,
    **options: object,
) -> Split:
    """Split `data` by the protocol of that name.

    Parameters
    ----------
    data
        What to split; a sparse matrix of people x items is accepted too.
    protocol
        A key of `PROTOCOLS`.
    rng
        Seed, 0 where not given. ``mult-vae`` has its own, the option ``seed``; protocols that draw
        nothing give the same split for every seed.
    **options
        Options of the protocol: the fields of ``PROTOCOLS[protocol]``.

    Returns
    -------
    The split; ``split(data, s.protocol, **s.options)`` makes the split ``s`` again.

    Raises
    ------
    ConfigError
        If the protocol or an option is unknown, or a value is not accepted.
    DataError
        If the data lacks what the protocol needs, or a part would be empty.

    Examples
    --------
    >>> from recae.data.synthetic import Synthetic
    >>> parts = split(Synthetic(n_users=50, n_items=40).interactions(), "strong", rng=1)
    >>> parts.train.n_users, len(parts.validation), len(parts.test)
    (40, 5, 5)
    """
    data = interactions_of("data", data)
    kind = protocol_class(protocol)
    names = {field.name for field in fields(kind)}
    if rng is not None and "rng" in names:
        options["rng"] = rng
    elif rng is not None and "seed" in names:
        raise ConfigError(f"protocol {protocol!r} got rng={rng}; it is seeded by its option seed")
    return kind.of(options, where=f"protocol {protocol!r}").split(data)

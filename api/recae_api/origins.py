"""What other sites make a browser send: refused, where being on this machine is the only key.

A page can rename its own site to a loopback address (DNS rebinding) and then read what is served
there; the ``Host`` of such a request still is the site's name. It can also post to any address,
without reading the answer; browsers say so in ``Sec-Fetch-Site``, or at least in ``Origin``.
"""

import functools
import ipaddress
import re
from collections.abc import Collection
from typing import Final

from flask import Request

from recae_api.problems import Problem, abridged

_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
_READING: Final = frozenset({"GET", "HEAD"})


def require_known_host(request: Request, names: Collection[str]) -> None:
    """Refuse a request from this machine for a host that is neither this machine nor in `names`.

    Requests from other machines, which name this one as they like, and those without a ``Host``,
    which no browser leaves out, are let pass.

    Raises
    ------
    Problem
        421 where the name is another.
    """
    given = request.headers.get("Host")
    if given is None or not is_loopback(request.remote_addr or ""):
        return
    match = _HOST.fullmatch(given.lower())
    name = match[1] if match else ""
    if name == "localhost" or name in names or is_loopback(name.strip("[]")):
        return
    raise Problem(
        "host-refused",
        f"the host is {abridged(given)}; localhost, loopback addresses and names given to"
        " recae serve --allow-host are accepted",
    )


def require_same_site(request: Request) -> None:
    """Refuse a request that changes something and that a page of another origin sent.

    Raises
    ------
    Problem
        403 where the browser says so.
    """
    if request.method in _READING:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        own = site in {"same-origin", "none"}
    else:  # plain HTTP beyond this machine, an old browser, or none
        own = origin is None or origin.partition("://")[2] == request.headers.get("Host")
    if not own:
        raise Problem("cross-site-refused", "a page of another origin sent this; own pages may")


@functools.lru_cache(maxsize=64)  # the same few come with every request
def is_loopback(address: str) -> bool:
    """Whether `address` is an IP address of this machine itself."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback

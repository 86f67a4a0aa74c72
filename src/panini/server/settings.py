"""What a server allows: addresses, a token, and limits."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from panini.errors import PaniniError

SHORTEST_TOKEN = 16
"""Characters that a token has at least."""


@dataclass(frozen=True)
class ServerSettings:
    """The settings of one server.

    Raises PaniniError for a value out of range, or for an address other than loopback without a token.
    """

    host: str = "127.0.0.1"
    """The address to listen on: an IP address or `localhost`."""
    port: int = 7860
    """0 to 65535; 0: any free port."""
    token: str = ""
    """The secret that every request must carry; empty: none is needed, which only loopback addresses allow."""
    names: tuple[str, ...] = ()
    """Host names by which clients may address the server, besides IP addresses and `localhost`."""
    queue: int = 16
    """At least 1: how many photos may wait or be in work. Further ones get status 429."""
    max_bytes: int = 64_000_000
    """Size of a request's body at most."""
    max_pixels: int = 50_000_000
    """Size of a photo, and of its enlarged result divided by 4, at most."""
    seconds: float = 300.0
    """How long the work on one photo may take, without the time that it waits."""
    upload_seconds: float = 60.0
    """How long a client may take to send a request."""
    keep_seconds: float = 3600.0
    """How long a result is kept after it was last asked for."""
    keep_bytes: int = 1_000_000_000
    """How much memory results may take; beyond that, the oldest are dropped."""
    store: Path | None = None
    """A folder in which finished results are kept as files, too. None: nothing is written to disk."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise PaniniError(f"--port must be from 0 to 65535, not {self.port}")
        for name in ("queue", "max_bytes", "max_pixels", "seconds", "upload_seconds", "keep_seconds", "keep_bytes"):
            if not getattr(self, name) > 0:
                raise PaniniError(f"{name} must be more than 0, not {getattr(self, name)}")
        if self.token and (len(self.token) < SHORTEST_TOKEN or not self.token.isascii() or " " in self.token):
            raise PaniniError(f"--token must have at least {SHORTEST_TOKEN} ASCII characters and no spaces")
        if not self.is_loopback and not self.token:
            raise PaniniError(f"{self.host} can be reached from other machines: name a secret with --token")

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is that of the machine itself. Names other than `localhost` are not looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

"""Checks every request before anything else sees it, and adds headers that keep other sites out."""

from __future__ import annotations

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from panini.server.metrics import Metrics
from panini.server.problems import Problem
from panini.server.settings import ServerSettings, is_loopback

COOKIE = "panini_token"
_OPEN = {"/healthz"}
"""Paths that need no token."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_SIGN_IN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Panini</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/static/style.css">
<main class="sign-in"><h1>Panini</h1><p>This server wants the token that it was started with.</p>
<form action="/"><label for="token">Token</label><input id="token" name="token" type="password" required autofocus>
<button class="primary">Open</button></form></main></html>"""


class Guard:
    """ASGI middleware: Host header (against DNS rebinding), origin, token, security headers, a count of requests."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no web sockets

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(route, str(message["status"])).inc()
            await send(message)

        refused = self._refused(scope)
        await (self._app if refused is None else refused)(scope, receive, send_with_headers)

    def _refused(self, scope: Scope) -> Response | None:
        """The answer to a request that is not let through; None for others."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return Problem(421, "wrong-host", "the Host header names another server").response()
        origin = headers.get("origin")
        if headers.get("sec-fetch-site") == "cross-site" and scope["method"] not in ("GET", "HEAD"):
            return Problem(403, "other-site", "the request comes from another site").response()
        if origin is not None and urlsplit(origin).netloc != host:
            return Problem(403, "other-site", "the request comes from another site").response()
        if not self._settings.token or scope["path"] in _OPEN or scope["path"].startswith("/static/style"):
            return None
        return self._without_token(scope, headers)

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header is an address of ours. An IP address is safe: only names can be rebound."""
        name = (host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host).lower()
        if is_loopback(name) or name in self._settings.names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name == self._settings.host.lower()
        return not self._settings.is_loopback

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that does not carry the token; None for those that do."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given):
            return None
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and self._is_token(cookie.value):
            return None
        if scope["path"] == "/" and scope["method"] == "GET":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if self._is_token(given):
                signed_in = RedirectResponse("/", 303)
                signed_in.set_cookie(COOKIE, given, httponly=True, samesite="strict")
                return signed_in
            return HTMLResponse(_SIGN_IN, 401)
        challenge = {"WWW-Authenticate": "Bearer"}
        return Problem(401, "token", "the token is missing or wrong: send Authorization: Bearer", challenge).response()

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._settings.token.encode())

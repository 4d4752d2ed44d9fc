"""The coordinator as the client sees it: HTTP, bounded answers, errors of our own tree. It is told sizes, no text."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import httpx2

from ..attest import Question
from ..chatfile import LARGEST as _CHAT
from ..errors import NetworkError, PeerError, UsageError
from ..members import Member
from ..records import Check, boolean, error_from_json, parse_json
from ..signed import Signed
from ..succession import Chain, is_chain
from ..wire import SessionReply, SessionRequest

_SMALL = 1 << 20
_LISTS = 8 << 20  # what a cluster of thousands tells of its peers
_TOKENIZER = 64 << 20  # the largest published tokenizer.json files are about 20 MB


@dataclass(frozen=True)
class Listed(Member):
    """A peer as the coordinator shows it: nothing of this is proved, but that each of `successions` is signed or is not."""

    live: bool
    successions: Chain = ()

    CHECKS: ClassVar[dict[str, Check]] = {**Member.CHECKS, "live": boolean, "successions": is_chain}


class Directory:
    """One coordinator. Every method raises NetworkError (not reachable, too slow), PeerError (nonsense), or what the
    coordinator reported (UsageError for an unknown model, RefusedError ...)."""

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        self.name = f"coordinator at {url}"
        # A proxy set in the environment is for the world outside, not for a cluster on this machine.
        self._http = httpx2.Client(base_url=url, timeout=timeout, trust_env=not is_loopback(url))

    def close(self) -> None:
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """What the cluster serves: name, manifest_hash, vocab, context, layers, architecture ..."""
        found = self._json("GET", "/v1/models")
        if not isinstance(found, list) or not all(isinstance(one, dict) and "name" in one for one in found):
            raise PeerError(self.name, "sent a list of models that is none")
        return found

    def manifest(self, model: str) -> bytes:
        return self._bytes("GET", f"/v1/models/{quote(model, safe='')}/manifest", _SMALL)

    def tokenizer(self, model: str) -> bytes:
        return self._bytes("GET", f"/v1/models/{quote(model, safe='')}/tokenizer", _TOKENIZER)

    def chat(self, model: str) -> bytes:
        return self._bytes("GET", f"/v1/models/{quote(model, safe='')}/chat", _CHAT)

    def status(self) -> dict[str, Any]:
        """Peers, roles, sessions, models."""
        found = self._json("GET", "/v1/status")
        if not isinstance(found, dict):
            raise PeerError(self.name, "sent a status that is none")
        return found

    def peers(self) -> list[Listed]:
        """The peers there are, live or not."""
        found = self._json("GET", "/v1/peers")
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise PeerError(self.name, "sent a list of peers that is none")
        try:
            listed = [
                Listed(
                    one.get("name", ""),
                    one.get("operator", ""),
                    one.get("peer_id", ""),
                    one.get("live", False),
                    one.get("successions", ()),
                )
                for one in found
            ]
        except UsageError as error:
            raise PeerError(self.name, f"shows a peer that cannot be: {error}") from None
        if len({one.peer_id for one in listed}) != len(listed):
            raise PeerError(self.name, "shows a peer twice")
        return listed

    def open_session(self, request: SessionRequest) -> SessionReply:
        """Three peers for a session, as they signed it; the caller checks the signatures."""
        raw = self._bytes("POST", "/v1/sessions", _SMALL, request.to_bytes())
        return SessionReply.from_bytes(raw, self.name)

    def attest(self, peer_id: str, question: Question) -> Signed:
        """A peer's attestation as it came; the caller checks it. Raises also what the peer itself reported."""
        raw = self._bytes("POST", f"/v1/peers/{quote(peer_id, safe='')}/attest", _SMALL, question.to_bytes())
        return Signed.from_bytes(raw, self.name)

    def _json(self, method: str, path: str) -> object:
        try:
            return parse_json(self._bytes(method, path, _LISTS), _LISTS)
        except ValueError as error:
            raise PeerError(self.name, f"sent no JSON for {path}: {error}") from None

    def _bytes(self, method: str, path: str, limit: int, content: bytes | None = None) -> bytes:
        headers = {"content-type": "application/json"} if content is not None else None
        body = bytearray()
        try:
            with self._http.stream(method, path, content=content, headers=headers) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > limit:
                        raise PeerError(self.name, f"sent more than {limit} bytes for {path}")
                if response.is_success:
                    return bytes(body)
                status = response.status_code
        except httpx2.ConnectError:
            raise NetworkError(f"no {self.name}: start a cluster with `tacit up`, or check the address") from None
        except httpx2.TimeoutException:
            raise NetworkError(f"{self.name} did not answer {path} in time") from None
        except httpx2.HTTPError as error:
            raise NetworkError(f"{self.name} broke off at {path}: {error}") from None
        raise self._reported(status, bytes(body), path)

    def _reported(self, status: int, body: bytes, path: str) -> Exception:
        try:
            report = parse_json(body)
        except ValueError:
            report = None
        if isinstance(report, dict) and "error" in report:
            return error_from_json(report["error"], self.name)
        return PeerError(self.name, f"answered {path} with HTTP status {status}")


def is_loopback(url: str) -> bool:
    """Whether a URL is of this machine, by its address or as localhost."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""The forms that identities, names and addresses take in every message, each as a check for `records.Record`.

Text forms: session = 32 hex digits, peer id = base64url of the Ed25519 public key (43 characters), CURVE key = z85 (40
characters), hash = 64 hex digits, endpoint = tcp://host:port.
"""

from __future__ import annotations

from .records import distinct, integer, many, text

MAX_TOKENS = 1 << 20
MAX_SEQUENCES = 64  # of a session
PROTOCOLS = ("pair", "crypten")


def short_id(peer_id: str) -> str:
    """The first characters of a peer id: enough for a person to tell peers apart."""
    return peer_id[:8]


def display_name(name: str, peer_id: str) -> str:
    """How messages name a peer: `peer-0 (3q2-7wEj)`."""
    return f"{name} ({short_id(peer_id)})"


is_session = text(r"[0-9a-f]{32}", "a session id (32 hex digits)")
# Of the last character two bits say nothing; only one spelling of a key is a peer id.
is_peer_id = text(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", "a peer id (43 characters of base64url)")
is_curve_key = text(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}", "a CURVE key (40 characters of z85)")
is_hash = text(r"[0-9a-f]{64}", "a SHA-256 hash (64 hex digits)")
is_endpoint = text(r"tcp://(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}", "an endpoint tcp://host:port")
is_name = text(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}", "a name (letters, digits, '.', '_', '-', space; at most 64)")
is_model = text(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", "a model name (letters, digits, '.', '_', '-', '/'; at most 128)")
is_protocol = text("|".join(PROTOCOLS), f"a protocol served here ({', '.join(PROTOCOLS)})")
is_url = text(r"https?://[A-Za-z0-9.:_\[\]/-]{1,255}", "an http(s) address")
is_version = text(r"[0-9A-Za-z.+-]{1,32}", "a version")
is_role = integer(0, 2)
is_tokens = integer(1, MAX_TOKENS)
is_peers = distinct(many(is_peer_id, 3, 3))
is_currency = text(r"[A-Z]{3}", "a currency (three capital letters)")
is_amount = integer(0, 10**15)
is_time = integer(0, 1 << 40)
is_quotes = many(is_hash, 3, 3)

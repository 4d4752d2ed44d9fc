"""Addresses to say hello at: given with --join, remembered from the last run, or discovered. Any thread may call."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from ...address import Address
from ...errors import UsageError
from ...records import parse_json

log = logging.getLogger("tacit.party.p2p")

AGAIN_SECONDS = 30.0  # between hellos to somebody who answered
FIRST_RETRY, LAST_RETRY = 0.5, 15.0  # seconds, doubling
ATTEMPTS = 12  # until an address that nobody gave by hand is dropped
MAX_CONTACTS = 1024
FORMAT = "tacit contacts/1"


@dataclass(slots=True)
class Contact:
    """A peer to find. `given` ones are never dropped."""

    peer_id: str
    addresses: tuple[str, ...]
    given: bool
    due: float = 0.0
    failures: int = 0


class Contacts:
    """Who is to be greeted when."""

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id
        self._contacts: dict[str, Contact] = {}
        self._lock = threading.Lock()

    def add(self, address: Address, given: bool = False) -> None:
        """A multiaddr with a peer in it. New addresses of a known peer are tried at once."""
        if not address.peer_id or address.peer_id == self._own_id:
            return
        with self._lock:
            contact = self._contacts.get(address.peer_id)
            if contact is None:
                if len(self._contacts) < MAX_CONTACTS:
                    self._contacts[address.peer_id] = Contact(address.peer_id, (address.place,), given)
            elif address.place not in contact.addresses:
                contact.addresses = (address.place, *contact.addresses[:3])
                contact.due, contact.failures = 0.0, 0
                contact.given |= given

    def due(self) -> list[Contact]:
        """Those to greet now; each is not due again before it was settled or some time has passed."""
        now = time.monotonic()
        with self._lock:
            found = [contact for contact in self._contacts.values() if contact.due <= now]
            for contact in found:
                contact.due = now + LAST_RETRY
        return found

    def given(self) -> list[Contact]:
        with self._lock:
            return [contact for contact in self._contacts.values() if contact.given]

    def familiar(self) -> list[Contact]:
        """Those that nobody gave by hand."""
        with self._lock:
            return [contact for contact in self._contacts.values() if not contact.given]

    def addresses(self, peer_id: str) -> tuple[str, ...]:
        with self._lock:
            contact = self._contacts.get(peer_id)
            return contact.addresses if contact is not None else ()

    def settle(self, contact: Contact, answered: bool) -> None:
        """How a greeting went."""
        with self._lock:
            contact.failures = 0 if answered else contact.failures + 1
            pause = AGAIN_SECONDS if answered else min(LAST_RETRY, FIRST_RETRY * 2 ** (contact.failures - 1))
            contact.due = time.monotonic() + pause
            if contact.failures >= ATTEMPTS and not contact.given:
                self._contacts.pop(contact.peer_id, None)


def load_addresses(path: Path) -> list[Address]:
    """What `save_addresses` wrote at the end of the last run; a damaged file is only told of."""
    try:
        found = parse_json(path.read_bytes())
        if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found["addresses"], list):
            raise ValueError("not a file of contacts")
        return [Address.parse(str(text)) for text in found["addresses"][:MAX_CONTACTS]]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, ValueError, UsageError) as error:
        log.warning("%s: the members of the last run cannot be read: %s", path, error)
        return []


def save_addresses(path: Path, addresses: list[Address]) -> None:
    """Keep where the others are, so that a restarted node finds them without the node it joined by."""
    draft = path.with_name(path.name + ".draft")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            json.dump({"format": FORMAT, "addresses": [str(one) for one in addresses]}, file)
        draft.replace(path)
    except OSError as error:
        log.warning("%s: the members cannot be remembered: %s", path, error.strerror)

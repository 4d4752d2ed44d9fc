"""The mesh across machines: libp2p streams between the holders of an invite, who find each other by saying hello.

Who is there spreads by gossip over "hello" (see `hello.py`): whoever is learned of is greeted at once, a member drawn by
lot every few seconds, the addresses given with --join ever again. So any member serves as the first one, and nobody's
end matters to the others.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...address import Address
from ...checks import short_id
from ...errors import ConfigError, IdentityError, NetworkError, TacitError, UsageError
from ...members import Member, Members
from ...signed import Signed
from ...succession import Chain
from ..identity import Identity
from ..mesh import Handler, Mesh, Whereabouts
from .contacts import Contact, Contacts, load_addresses, save_addresses
from .hello import HELLO, Greeter
from .host import Host
from .hosts import own_hosts
from .invite import Invite
from .mdns import LocalNetwork
from .record import MAX_ADDRESSES, PEER, MemberRecord, now_ms
from .table import Table

log = logging.getLogger("tacit.party.p2p")

GOSSIP_SECONDS = 5.0
RENEW_SECONDS = 60.0
TICK_SECONDS = 0.1
SAVE_SECONDS = 5.0
FIRST_MEETING_SECONDS, MEETING_SECONDS = 2.0, 60.0
HELLO_SECONDS = 3.0
FAMILIAR_SECONDS = 1.0  # that a start may wait for members of the last run, who may be gone for good
GREETERS = 8  # hellos at once
STRANGER = "does not know the asker as a member of its cluster"


@dataclass(frozen=True)
class P2pSettings:
    """What a node says of itself, and whom it looks for. `listen`, `join`: multiaddrs; `memory`: file for addresses."""

    name: str
    operator: str
    listen: tuple[str, ...]
    kind: str = PEER
    join: tuple[str, ...] = ()
    advertise: str = ""  # host under which others reach this node
    url: str = ""
    own: bool = False
    listed: Mapping[str, Member] | None = None
    memory: Path | None = None
    mdns: bool = False


class P2pMesh(Mesh):
    """`start` it before asking. Members come and go while it runs."""

    def __init__(self, identity: Identity, invite: Invite, settings: P2pSettings) -> None:
        """Raises ConfigError for an address that is none."""
        self._identity = identity
        self._own_id = identity.peer_id
        self._invite = invite
        self._settings = settings
        self._table = Table(invite, self._own_id, settings.own, settings.listed)
        self._contacts = Contacts(self._own_id)
        for text in settings.join:
            self._contacts.add(_joinable(text), given=True)
        self._host = Host(identity.seed, settings.listen, self._table.name_of)
        self._greeter = Greeter(self._table, self._own_signed, self._learned)
        self._greeted: set[str] = set()  # peers that know us, as far as we know
        self._greeting: set[str] = set()
        self._said: dict[str, str] = {}  # peer id -> the last complaint about it, so that each is logged once
        self._url = settings.url
        self._own_record: Signed | None = None
        self._made = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._local = (
            LocalNetwork(invite.namespace, self._own_id, lambda: self.addresses, self._contacts.add)
            if settings.mdns
            else None
        )
        self._pool = ThreadPoolExecutor(GREETERS, thread_name_prefix="hello")
        self._thread = threading.Thread(target=self._run, name="gossip", daemon=True)

    @property
    def members(self) -> Members:
        return self._table

    @property
    def table(self) -> Table:
        """The members with their addresses and signed records."""
        return self._table

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others find this node, each as a multiaddr that the next node can join by."""
        record = self._table.record(self._own_id)
        return tuple(str(Address.parse(one).of(self._own_id)) for one in record.addresses) if record else ()

    def start(self) -> None:
        """Listen and look for the others. Raises NetworkError for an address that cannot be listened on."""
        self._host.serve(HELLO, self._hello, threads=4)
        self._host.start()
        self._renew()
        if self._settings.memory is not None:
            for address in load_addresses(self._settings.memory):
                self._contacts.add(address)
        self._thread.start()
        if self._local is not None:
            self._local.start()

    def join(self, timeout: float = HELLO_SECONDS) -> None:
        """Greet everybody given with --join and wait for them; for a moment, too, for those of the last run.

        Whoever is not there is asked again later. A node that was started anew may have other addresses than before: it
        is not ready while all others would look for it at the former ones.

        Raises ConfigError if all that were given refuse us, saying why.
        """
        given, familiar = self._contacts.given(), self._contacts.familiar()
        tries = [self._pool.submit(self._contact, contact) for contact in given]
        wait([self._pool.submit(self._contact, contact) for contact in familiar], timeout=FAMILIAR_SECONDS)
        wait(tries, timeout=timeout + 1.0)
        refusals = [error for one in tries if one.done() and isinstance(error := one.result(), IdentityError)]
        if given and len(refusals) == len(given):
            raise ConfigError(f"this node was not let in: {refusals[0]}")

    # As Mesh ---------------------------------------------------------------------------------------------------------

    def serve(self, protocol: str, handler: Handler, threads: int = 4) -> None:
        self._host.serve(protocol, handler, threads, self._door)

    def request(self, peer_id: str, protocol: str, question: bytes, timeout: float = 5.0) -> bytes:
        if self._table.record(peer_id) is None or peer_id == self._own_id:
            raise IdentityError(f"unknown peer {short_id(peer_id)}", f"is not a member of {self._invite.cluster!r}")
        deadline = time.monotonic() + timeout
        if peer_id not in self._greeted:
            self._greet(peer_id, timeout)
        try:
            return self._ask(peer_id, protocol, question, deadline - time.monotonic())
        except IdentityError as error:
            if error.reason != STRANGER:
                raise
        self._greet(peer_id, deadline - time.monotonic())  # it was started anew and has forgotten us
        return self._ask(peer_id, protocol, question, deadline - time.monotonic())

    def set_url(self, url: str) -> None:
        self._url = url
        self._renew()
        self._gossip()

    def whereabouts(self, peer_id: str) -> Whereabouts:
        record = self._table.record(peer_id)
        places = [Address.parse(one) for one in record.addresses] if record is not None else []
        return Whereabouts(tuple((place.host, place.port) for place in places), self._host.seen(peer_id))

    def successions(self, peer_id: str) -> Chain:
        record = self._table.record(peer_id)
        return record.successions if record is not None else ()

    def close(self) -> None:
        self._stop.set()
        if self._local is not None:
            self._local.close()
        self._host.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._thread.is_alive():
            self._thread.join(0.5)
        self._remember()

    def _ask(self, peer_id: str, protocol: str, question: bytes, timeout: float) -> bytes:
        record = self._table.record(peer_id)
        addresses = record.addresses if record is not None else ()
        more = tuple(one for one in self._contacts.addresses(peer_id) if one not in addresses)
        if timeout <= 0:
            raise NetworkError(f"{self._table.name_of(peer_id)}: no time is left to ask it")
        return self._host.ask(peer_id, addresses + more, protocol, question, timeout)

    def _outside(self, sender: str) -> TacitError | None:
        if self._table.record(sender) is not None:
            return None
        return IdentityError(self._table.name_of(self._own_id), STRANGER)

    def _door(self, sender: str) -> TacitError | None:
        refusal = self._outside(sender)
        if refusal is not None:
            log.info("refused a question of %s, which is no member", self._table.name_of(sender))
        return refusal

    # Hello -----------------------------------------------------------------------------------------------------------

    def _hello(self, sender: str, question: bytes) -> bytes:
        answer = self._greeter.answer(sender, question)
        with self._lock:
            self._greeted.add(sender)
        return answer

    def _greet(self, peer_id: str, timeout: float = HELLO_SECONDS) -> None:
        """Raises what the greeting raised."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._greeted.discard(peer_id)
        self._greeter.greet(peer_id, lambda question: self._ask(peer_id, HELLO, question, deadline - time.monotonic()))
        with self._lock:
            self._greeted.add(peer_id)
            self._said.pop(peer_id, None)

    def _contact(self, contact: Contact) -> TacitError | None:
        """Greet somebody to be found; what went wrong, if anything did."""
        error = self._try_greeting(contact.peer_id)
        self._contacts.settle(contact, error is None)
        return error

    def _try_greeting(self, peer_id: str) -> TacitError | None:
        with self._lock:
            if peer_id in self._greeting:
                return None
            self._greeting.add(peer_id)
        try:
            self._greet(peer_id)
        except TacitError as error:
            self._complain(peer_id, error)
            return error
        finally:
            with self._lock:
                self._greeting.discard(peer_id)
        return None

    def _complain(self, peer_id: str, error: TacitError) -> None:
        with self._lock:
            known, self._said[peer_id] = self._said.get(peer_id), str(error)
        if known != str(error) and not self._stop.is_set():
            log.log(logging.WARNING if isinstance(error, IdentityError) else logging.INFO, "hello: %s", error)

    def _learned(self, record: MemberRecord) -> None:
        """Somebody new, or with new addresses: let it know us."""
        if record.peer_id not in self._greeted and not self._stop.is_set():
            self._soon(self._try_greeting, record.peer_id)

    # In the background -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        now = time.monotonic()
        gossip, renewal, saving, meeting = now, now + RENEW_SECONDS, now + SAVE_SECONDS, now + FIRST_MEETING_SECONDS
        while not self._stop.wait(TICK_SECONDS):
            now = time.monotonic()
            if now >= renewal:
                renewal = now + RENEW_SECONDS
                self._renew()
            if now >= gossip:
                gossip = now + GOSSIP_SECONDS * random.uniform(0.5, 1.5)
                self._gossip()
            if now >= meeting:
                meeting = now + MEETING_SECONDS
                self._rendezvous()
            if now >= saving:
                saving = now + SAVE_SECONDS
                self._remember()
            for contact in self._contacts.due():
                self._soon(self._contact, contact)

    def _meet(self, peer_id: str) -> None:
        """Ask a member's rendezvous for others."""
        record = self._table.record(peer_id)
        try:
            found = self._host.meet(peer_id, record.addresses if record else (), self._invite.namespace, HELLO_SECONDS)
        except TacitError as error:
            log.debug("%s", error)
            return
        for other, addresses in found:
            if self._table.record(other) is None:
                for text in addresses[:MAX_ADDRESSES]:
                    with suppress(UsageError):
                        self._contacts.add(Address.parse(text).of(other))

    def _soon(self, call: Callable[..., object], *arguments: object) -> None:
        """In a thread of the pool; not at all once the mesh is closing."""
        with suppress(RuntimeError):
            self._pool.submit(call, *arguments)

    def _rendezvous(self) -> None:
        """At those we were told to join, and at a member drawn by lot."""
        others = [record.peer_id for record, _ in self._table.entries() if record.peer_id != self._own_id]
        points = {contact.peer_id for contact in self._contacts.given()} & set(others)
        for peer_id in points | set(random.sample(others, min(1, len(others)))):
            self._soon(self._meet, peer_id)

    def _gossip(self) -> None:
        others = [record.peer_id for record, _ in self._table.entries() if record.peer_id != self._own_id]
        if others:
            self._soon(self._try_greeting, random.choice(others))

    def _remember(self) -> None:
        if self._settings.memory is None:
            return
        found = [
            Address.parse(one).of(record.peer_id)
            for record, _ in self._table.entries()
            if record.peer_id != self._own_id
            for one in record.addresses
        ]
        if found:
            save_addresses(self._settings.memory, found)

    def _own_signed(self) -> Signed:
        with self._lock:
            if self._own_record is None:
                raise NetworkError("the mesh is still starting")
            return self._own_record

    def _renew(self) -> None:
        """Make our own record anew: still here, and now at these addresses."""
        settings = self._settings
        with self._lock:
            self._made = max(now_ms(), self._made + 1)
            record = MemberRecord(
                context=MemberRecord.CONTEXT,
                cluster=self._invite.cluster,
                peer_id=self._own_id,
                name=settings.name,
                operator=settings.operator,
                kind=settings.kind,
                addresses=tuple(reachable(self._host.addresses, settings.advertise)[:MAX_ADDRESSES]),
                url=self._url,
                made=self._made,
                successions=self._identity.successions,
                proof=b"\0" * 32,
            )
            self._own_record = record.signed(self._identity, self._invite)
        self._table.set_own(self._own_record)
        self._host.welcome(self.addresses, self._outside)


def reachable(listening: tuple[str, ...], advertise: str) -> list[str]:
    """Where others find a node that listens there: at `advertise` if given, else on every interface it listens on."""
    found: list[str] = []
    for text in listening:
        address = Address.parse(text)
        if advertise:
            hosts = [advertise]
        elif address.is_everywhere:
            version6 = address.kind == "ip6"
            hosts = [host for host in own_hosts() if version6 or ":" not in host] or [
                "::1" if version6 else "127.0.0.1"
            ]
        else:
            hosts = [address.host]
        found += [place for host in hosts if (place := Address.at(host, address.port).place) not in found]
    return found


def _joinable(text: str) -> Address:
    try:
        address = Address.parse(text)
    except UsageError as error:
        raise ConfigError(f"--join: {error}") from None
    if not address.peer_id:
        raise ConfigError(f"--join {text}: says no peer; give the whole address that the node printed, with /p2p/…")
    return address

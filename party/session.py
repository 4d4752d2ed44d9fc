"""A peer's seat in one session: from the coordinator's offer to the engine, in its own thread.

| state     | event                              | what happens                                           | next      |
| --------- | ---------------------------------- | ------------------------------------------------------- | --------- |
| preparing | offer accepted                     | compute peers bind a link for the client               | preparing |
| preparing | for each lower role                | introduce ourselves with a fresh key, check the signed  | opening   |
|           |                                    | binding, dial                                          |           |
| opening   | introduction by each higher role   | check it, admit exactly that key, bind, answer signed   | opening   |
| opening   | all links there                    | hellos on every link; nobody is admitted any more      | running   |
| running   | the engine returns                 | goodbyes                                               | ended     |
| any       | an error, or the time is up        | every other party hears who caused it                  | ended     |

The binder admits the dialler's key before it answers, because libzmq does not come back after a refusal.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import zmq

from .. import __version__
from ..ends import Ends, LinkSettings
from ..errors import IdentityError, NetworkError, PeerError, RefusedError, TacitError
from ..link import Circle
from ..livenetwork import LiveNetwork
from ..members import Members
from ..network import CLIENT as CLIENT_NAME
from ..receipts import Receipt
from ..shaping import ShapedLine
from ..signed import Signed
from ..tracing.recorder import DONE, Recorder, Traces, clock
from ..wire import CLIENT, DEALER, ROLE_NAMES, Binding, Introduction, Offer, Statement
from ..zmqlink import CurveKeys, ZmqLink
from .budget import Account, Need, size
from .identity import Identity
from .links import ComputeLinks, DealerLinks, Patience, SessionLimits, Tally
from .mesh import INTRODUCE, Mesh
from .totals import Work, outcome, work
from .zap import Doorkeeper

log = logging.getLogger("tacit.party.session")

MAX_FROM_CLIENT = 64 << 20  # where the model does not say what its sessions need
UNREAD_SLACK = 1 << 20  # bytes that may lie unread beside what was agreed: credit, heartbeats, plans


class Model(Protocol):
    """What a seat needs to know of a loaded model; the engine knows more (`served.ServedModel`)."""

    @property
    def name(self) -> str: ...
    @property
    def manifest(self) -> bytes: ...
    @property
    def manifest_hash(self) -> str: ...
    @property
    def tokenizer(self) -> bytes | None: ...
    @property
    def chat(self) -> bytes | None: ...
    @property
    def summary(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Engines:
    """What runs once the links are open. Each returns at the session's orderly end, or raises.

    A compute peer's seat signs the tally that its engine returns, and sends it to the client as the receipt.
    """

    compute: Callable[[int, Any, ComputeLinks, SessionLimits], Tally | None]
    dealer: Callable[[Any, DealerLinks, SessionLimits], None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all seats of a peer share. `host` is listened on, `advertised` is where others find it."""

    context: zmq.Context[zmq.Socket[bytes]]
    doorkeeper: Doorkeeper
    identity: Identity
    mesh: Mesh
    host: str
    advertised: str
    settings: LinkSettings
    engines: Engines
    account: Account | None = None  # of the memory that sessions may take; None: not bounded
    patience: Patience = field(default_factory=Patience)
    network: LiveNetwork | None = None  # what links are made to be like; None: as they are
    traces: Traces | None = None  # where to leave records of what sessions do; None: they leave none

    @property
    def members(self) -> Members:
        return self.mesh.members

    @property
    def own_name(self) -> str:
        return self.members.name_of(self.identity.peer_id)


class Seat:
    """One session, one role. `ended` is called once, from the seat's thread or from a failed `prepare`."""

    def __init__(
        self,
        around: Surroundings,
        offer: Offer,
        model: Model,
        ended: Callable[[Seat], None],
        need: Need | None = None,
    ) -> None:
        """`need`: what the session may take here; no sender gets room for more than it says."""
        self.offer = offer
        self._need = need
        self.circle = Circle()
        self._around = around
        self._model = model
        self._ended = ended
        self._links: dict[int, ZmqLink] = {}
        self._keys: set[str] = {offer.client_key}
        self._domains: list[str] = []
        self._lock = threading.Lock()
        self._complete = threading.Event()
        self._open = False
        self._over = False
        self._error: TacitError | None = None  # that ended it
        self._deadline = time.monotonic() + around.settings.opening_timeout
        self._thread = threading.Thread(target=self._run, name=f"session-{offer.session[:8]}", daemon=True)

    @property
    def session(self) -> str:
        return self.offer.session

    # Preparing -------------------------------------------------------------------------------------------------------

    def prepare(self) -> Signed:
        """Bind for the client, dial the lower roles, start the thread; our signed statement. Raises TacitError."""
        try:
            endpoint, key = ("", "") if self.offer.role == DEALER else self._bind(CLIENT, self.offer.client_key)
            for role in range(self.offer.role):
                self._dial(role)
        except BaseException:
            self._let_go()
            raise
        self._thread.start()
        return self._around.identity.sign(self._statement(endpoint, key))

    def _statement(self, endpoint: str, key: str) -> Statement:
        offer, identity = self.offer, self._around.identity
        member = self._around.members.member(identity.peer_id)
        return Statement(
            context=Statement.CONTEXT,
            session=offer.session,
            role=offer.role,
            peer_id=identity.peer_id,
            operator=member.operator if member else "",
            peers=offer.peers,
            model=offer.model,
            protocol=offer.protocol,
            manifest_hash=self._model.manifest_hash,
            endpoint=endpoint,
            curve_key=key,
            client_key=offer.client_key,
            sizes=offer.sizes,
            padded=offer.padded,
            quotes=offer.quotes,
        )

    def _dial(self, role: int) -> None:
        around, other = self._around, self.offer.peers[role]
        keys = CurveKeys.fresh()
        introduction = Introduction(
            context=Introduction.CONTEXT,
            session=self.session,
            sender=around.identity.peer_id,
            receiver=other,
            sender_role=self.offer.role,
            receiver_role=role,
            key=keys.public,
            manifest_hash=self._model.manifest_hash,
        )
        raw = around.mesh.request(other, INTRODUCE, around.identity.sign(introduction).to_bytes())
        name = around.members.name_of(other)
        binding = check_binding(Signed.from_bytes(raw, name), introduction, name)
        self._fresh(binding.key, name)
        self._links[role] = ZmqLink.dial(
            around.context,
            binding.endpoint,
            binding.key,
            keys,
            self._ends(role),
            self.circle,
            self._settings(role),
            affinity=_affinity(self.offer.role, role),
            line=self._line(role),
        )
        self._completed()

    # Being introduced ------------------------------------------------------------------------------------------------

    def introduced(self, signed: Signed, sender: str) -> Signed:
        """`sender` of a higher role wants in: check its introduction, bind for it, answer.

        Raises IdentityError or RefusedError.
        """
        around = self._around
        introduction = check_introduction(signed, self.offer, sender, around.identity.peer_id, around.members)
        name = around.members.name_of(introduction.sender)
        if introduction.manifest_hash != self._model.manifest_hash:
            raise RefusedError(around.own_name, f"{name} holds another {self.offer.model}")
        with self._lock:
            if introduction.sender_role in self._links or self._over or self.circle.failure is not None:
                raise RefusedError(around.own_name, f"{name} was introduced already, or the session is over")
            self._fresh(introduction.key, name)
            endpoint, key = self._bind(introduction.sender_role, introduction.key)
        return around.identity.sign(
            Binding(
                context=Binding.CONTEXT,
                session=self.session,
                sender=introduction.receiver,
                receiver=introduction.sender,
                sender_role=introduction.receiver_role,
                receiver_role=introduction.sender_role,
                endpoint=endpoint,
                key=key,
                admitted=introduction.key,
                manifest_hash=self._model.manifest_hash,
            )
        )

    def _fresh(self, key: str, name: str) -> None:
        if key in self._keys:
            raise IdentityError(name, "came with a CURVE key that this session has seen before")
        self._keys.add(key)

    def _bind(self, role: int, admitted: str) -> tuple[str, str]:
        around, keys = self._around, CurveKeys.fresh()
        domain = f"session {self.session} role {role}"
        around.doorkeeper.admit(domain, admitted)
        self._domains.append(domain)
        link = ZmqLink.bind(
            around.context,
            around.host,
            domain,
            keys,
            self._ends(role),
            self.circle,
            self._settings(role),
            affinity=_affinity(self.offer.role, role),
            line=self._line(role),
        )
        self._links[role] = link
        self._completed()
        port = link.endpoint.rpartition(":")[2]
        host = f"[{around.advertised}]" if ":" in around.advertised else around.advertised
        return f"tcp://{host}:{port}", keys.public

    def _settings(self, role: int) -> LinkSettings:
        """Of the link to `role`: frames no larger than the session has."""
        settings = self._around.settings
        if self._need is not None and role in self._need.frames:
            return replace(settings, max_body=self._need.frames[role])
        return replace(settings, max_body=MAX_FROM_CLIENT) if role == CLIENT else settings

    def _line(self, role: int) -> ShapedLine | None:
        """What shapes what comes from `role`."""
        network = self._around.network
        if network is None:
            return None
        member = None if role == CLIENT else self._around.members.member(self.offer.peers[role])
        return network.line(member.name if member else CLIENT_NAME)

    def look_for_floods(self) -> None:
        """End the session if somebody sent more than it may have unread here. Any thread may ask, again and again."""
        if self._need is None or self._over:
            return
        for role, most in self._need.unread.items():
            link = self._links.get(role)
            unread = link.unread() if link is not None else None
            if link is not None and unread is not None and unread > most + UNREAD_SLACK:
                link.cut()
                reason = f"sent {size(unread)} ahead of being read, in a session where at most {size(most)} can be"
                self.circle.fail(PeerError(link.remote, reason))

    def _completed(self) -> None:
        if set(self._links) == {0, 1, DEALER, CLIENT} - {self.offer.role} - self._absent:
            self._complete.set()

    @property
    def _absent(self) -> set[int]:
        return {CLIENT} if self.offer.role == DEALER else set()

    def _ends(self, role: int) -> Ends:
        offer = self.offer
        return Ends(
            session=bytes.fromhex(offer.session),
            parties=(*offer.peers, offer.client_key),
            own_role=offer.role,
            remote_role=role,
            remote_name="client" if role == CLIENT else self._around.members.name_of(offer.peers[role]),
            manifest_hash=self._model.manifest_hash,
        )

    # Running ---------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        started = time.monotonic()
        role, name = self.offer.role, f"session {self.session[:8]} as {ROLE_NAMES[self.offer.role]}"
        session, links, ended = bytes.fromhex(self.session), self._links, DONE
        recorder = self._recorder()
        try:
            since = clock()
            self._open_links(recorder)
            if recorder is not None:
                recorder.span("opening", since)
            log.info("%s: open after %.0f ms", name, 1000 * (time.monotonic() - started))
            offer = self.offer
            limits = SessionLimits(offer.sizes, self._around.patience, offer.protocol, offer.padded)
            if role == DEALER:
                seated = DealerLinks(session, role, links[0], links[1], self.circle, recorder)
                self._around.engines.dealer(self._model, seated, limits)
            else:
                others = links[1 - role], links[DEALER], links[CLIENT]
                ours = ComputeLinks(session, role, *others, self.circle, recorder)
                tally = self._around.engines.compute(role, self._model, ours, limits)
                if tally is not None:
                    links[CLIENT].send("receipt", self._receipt(tally).to_bytes())
            log.info("%s: done after %.1f s", name, time.monotonic() - started)
        except TacitError as error:
            ended = type(error).__name__
            self._error = error
            self.circle.fail(error)
            log.warning("%s: ended: %s: %s", name, type(error).__name__, error)
        except Exception as error:  # noqa: BLE001  whatever happens inside, the other parties must be told
            ended = type(error).__name__
            self._error = PeerError(self._around.own_name, "failed inside; its log says where")
            self.circle.fail(self._error)
            log.error("%s: failed inside: %s", name, _where(error))
        finally:
            self._let_go()
            if recorder is not None:
                recorder.close(ended)

    def _recorder(self) -> Recorder | None:
        if self._around.traces is None:
            return None
        offer, name = self.offer, self._around.own_name
        return self._around.traces.open(
            bytes.fromhex(self.session), offer.role, name=name, model=offer.model, protocol=offer.protocol
        )

    def _receipt(self, tally: Tally) -> Signed:
        offer, identity = self.offer, self._around.identity
        return identity.sign(
            Receipt(
                context=Receipt.CONTEXT,
                session=offer.session,
                role=offer.role,
                peer_id=identity.peer_id,
                peers=offer.peers,
                model=offer.model,
                protocol=offer.protocol,
                manifest_hash=self._model.manifest_hash,
                version=__version__,
                tokens=tally.tokens,
                steps=tally.steps,
                rounds=tally.rounds,
                online_bytes=tally.online_bytes,
                offline_bytes=tally.offline_bytes,
                transcript=tally.transcript.hex(),
                quotes=offer.quotes,
            )
        )

    def _open_links(self, recorder: Recorder | None) -> None:
        while not self._complete.wait(0.1):
            if self.circle.failure is not None:
                raise self.circle.failure
            if time.monotonic() > self._deadline:
                missing = sorted({0, 1, DEALER} - {self.offer.role} - set(self._links))
                raise NetworkError(f"{', '.join(ROLE_NAMES[role] for role in missing)} did not come in time")
        for role in sorted(self._links):
            self._links[role].recorder = recorder
            self._links[role].open(max(0.1, self._deadline - time.monotonic()))
        with self._lock:
            self._open = True
        self._shut_doors()

    def stop(self, error: TacitError) -> None:
        """End the session from outside; its thread does the rest."""
        self.circle.fail(error)

    @property
    def is_open(self) -> bool:
        """Whether all parties met; from then on the coordinator has no say."""
        return self._open

    @property
    def work(self) -> Work:
        """What was done in it so far."""
        return work(self.offer.role, {role: link.stats for role, link in dict(self._links).items()})

    @property
    def outcome(self) -> str:
        """How it ended, one of `wire.OUTCOMES`; says nothing before."""
        return outcome(self._error, opened=self._open, own_name=self._around.own_name)

    def join(self, timeout: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _shut_doors(self) -> None:
        for domain in self._domains:
            self._around.doorkeeper.forget(domain)

    def _let_go(self) -> None:
        with self._lock:  # an introduction that comes now must not make another link
            self._over = True
        self._shut_doors()
        self.circle.close()
        self._ended(self)


def check_introduction(signed: Signed, offer: Offer, sender: str, own_id: str, members: Members) -> Introduction:
    """The introduction, if the mesh's `sender` holds that seat in this session and signed it. Raises IdentityError."""
    name = members.name_of(sender)
    if sender not in offer.peers:
        raise IdentityError(name, "has no seat in this session")
    found = Introduction.from_bytes(signed.verified(sender, name), name)
    expected = {
        "session": offer.session,
        "sender": sender,
        "sender_role": offer.peers.index(sender),
        "receiver": own_id,
        "receiver_role": offer.role,
    }
    for what, value in expected.items():
        if getattr(found, what) != value:
            raise IdentityError(name, f"signed an introduction with another {what} than this session's")
    if found.sender_role <= offer.role:
        raise IdentityError(name, f"introduces itself to {ROLE_NAMES[offer.role]}, which should dial it")
    return found


def check_binding(signed: Signed, introduction: Introduction, name: str) -> Binding:
    """The binding, if the peer that we introduced ourselves to signed it, in answer to us. Raises IdentityError."""
    payload = signed.verified(introduction.receiver, name)
    found = Binding.from_bytes(payload, name)
    expected = {
        "session": introduction.session,
        "sender": introduction.receiver,
        "receiver": introduction.sender,
        "sender_role": introduction.receiver_role,
        "receiver_role": introduction.sender_role,
        "admitted": introduction.key,
        "manifest_hash": introduction.manifest_hash,
    }
    for what, value in expected.items():
        if getattr(found, what) != value:
            raise IdentityError(name, f"signed a binding with another {what} than we introduced ourselves with")
    if found.key == introduction.key:
        raise IdentityError(name, "answered with our own key")
    return found


def _affinity(own_role: int, role: int) -> int:
    """The dealer's stream gets an I/O thread apart from the rounds between the compute peers."""
    return 2 if DEALER in (own_role, role) and (own_role != DEALER or role == 1) else 1


def _where(error: BaseException) -> str:
    """Type and place of an exception, without its message: that might quote what was being computed."""
    trace = error.__traceback__
    places = []
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' < '.join(reversed(places[-6:]))}"

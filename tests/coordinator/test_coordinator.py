"""Registry, committees and the HTTP face, over a mesh that the test controls."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest
from tacit.coordinator.app import make_app
from tacit.coordinator.committee import Wishes, choose
from tacit.coordinator.registry import Live, Registry
from tacit.coordinator.relay import AT_ONCE, MAX_ANSWER, Relay
from tacit.coordinator.server import HttpServer, listen
from tacit.coordinator.sessions import Sessions
from tacit.errors import NetworkError, PeerError, RefusedError, UsageError
from tacit.members import CoordinatorEntry, Members, Roster, RosterMember
from tacit.party.identity import Identity
from tacit.party.mesh import MANIFEST, OFFER, STATUS, TOKENIZER, WITHDRAW, Handler, Mesh
from tacit.party.quoting import Quoting
from tacit.quotes import Quote, quote_hash, read_quote
from tacit.signed import Signed
from tacit.sizes import Sizes
from tacit.transport import CurveKeys
from tacit.wire import ModelOffer, Offer, PeerStatus, SessionReply, SessionRequest

IDENTITIES = [Identity.create() for _ in range(6)]
QUOTES = {identity.peer_id: Quoting(identity, 1_000_000, 100_000).current() for identity in IDENTITIES}
MANIFEST_BYTES = b'{"name": "stories"}'
HASH = hashlib.sha256(MANIFEST_BYTES).hexdigest()
SUMMARY = {"vocab": 512, "context": 256, "layers": 4, "architecture": "llama"}


def roster(peers: int = 5, own: bool = False, operators: str = "ABCDE") -> Roster:
    coordinator = IDENTITIES[5]
    return Roster(
        "test",
        own,
        CoordinatorEntry("coordinator", "http://127.0.0.1:1", coordinator.peer_id, coordinator.mesh_key),
        tuple(
            RosterMember(
                f"peer-{n}", operators[n], IDENTITIES[n].peer_id, f"tcp://127.0.0.1:{9000 + n}", IDENTITIES[n].mesh_key
            )
            for n in range(peers)
        ),
    )


def peer_status(peer_id: str, models: tuple[ModelOffer, ...], sessions: int, **changes: object) -> PeerStatus:
    fields = {
        "peer_id": peer_id,
        "version": "0.1.0",
        "models": models,
        "sessions": sessions,
        "max_sessions": 8,
        "quote": QUOTES.get(peer_id),
        "round_trips": {},
        "clock": int(time.time()),
        "load": 250,
        "memory": 100 << 20,
    }
    return PeerStatus(**{**fields, **changes})


class FakeMesh(Mesh):
    """Peers as a table: what each serves, who is down, what was asked."""

    def __init__(self, members: Roster) -> None:
        self.roster = members
        self.down: set[str] = set()
        self.refusing: set[str] = set()
        self.sessions = 0
        self.hashes = {member.peer_id: HASH for member in members.members}
        self.documents = {MANIFEST: MANIFEST_BYTES, TOKENIZER: b'{"model": "bpe"}'}
        self.forging: dict[str, bytes] = {}  # peers that send this for every document
        self.asked: list[tuple[str, str, bytes]] = []

    def request(self, peer_id: str, protocol: str, question: bytes, timeout: float = 5.0) -> bytes:
        name = self.roster.name_of(peer_id)
        if peer_id in self.down:
            raise NetworkError(f"{name}: no answer")
        if protocol == STATUS:
            models = (ModelOffer("stories", self.hashes[peer_id], dict(SUMMARY)),)
            return peer_status(peer_id, models, self.sessions).to_bytes()
        self.asked.append((peer_id, protocol, question))
        if protocol == OFFER and peer_id in self.refusing:
            raise RefusedError(name, "is busy with 8 sessions")
        if protocol in self.documents and peer_id in self.forging:
            return self.forging[peer_id]
        return self.documents.get(protocol, Signed(question, b"s" * 64).to_bytes())

    def serve(self, protocol: str, handler: Handler, threads: int = 4) -> None:
        raise NotImplementedError

    @property
    def members(self) -> Members:
        return self.roster

    def close(self) -> None:
        pass


@contextmanager
def running(members: Roster) -> Iterator[tuple[FakeMesh, Registry, Sessions]]:
    mesh = FakeMesh(members)
    registry = Registry(mesh, interval=0.1, retry=0.05, patience=0.1)
    registry.start()
    try:
        wait_until(lambda: len(registry.live()) == len(members.members))
        yield mesh, registry, Sessions(mesh, registry)
    finally:
        registry.close()


def wait_until(condition) -> None:
    deadline = time.monotonic() + 3
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(**changes: object) -> SessionRequest:
    fields = {"session": secrets.token_hex(16), "client_key": CurveKeys.fresh().public, "model": "stories"}
    return SessionRequest(**({**fields, "protocol": "pair", "sizes": Sizes.of([5], 20)} | changes))


def live(number: int, sessions: int = 0, operators: str = "ABCDE", latency: float = 0.001) -> Live:
    status = peer_status(IDENTITIES[number].peer_id, (ModelOffer("stories", HASH, {}),), sessions)
    member = roster(operators=operators).members[number]
    return Live(member, status, 0.0, latency, Quote.from_bytes(status.quote.payload, ""))


# Committees ----------------------------------------------------------------------------------------------------------


def test_a_committee_has_three_operators() -> None:
    holders = [live(n, operators="AABBC") for n in range(5)]
    for _ in range(50):
        assert {one.member.operator for one in choose(holders, own=False)} == {"A", "B", "C"}


def test_too_few_operators_are_refused_unless_the_cluster_is_ones_own() -> None:
    holders = [live(n, operators="AAABB") for n in range(5)]
    with pytest.raises(RefusedError, match="three free peers of three different operators, found 2"):
        choose(holders, own=False)
    assert len({one.member for one in choose(holders, own=True)}) == 3


def test_the_least_busy_are_chosen_and_the_full_left_out() -> None:
    holders = [live(0, sessions=8), live(1, sessions=7), live(2), live(3), live(4, sessions=1)]
    for _ in range(20):
        assert {one.member.name for one in choose(holders, own=False)} == {"peer-2", "peer-3", "peer-4"}
    with pytest.raises(RefusedError, match=r"found 2 .* 3 busy"):
        choose([live(0, 8), live(1, 8), live(2, 8), live(3), live(4)], own=False)


def test_a_cluster_of_ones_own_takes_different_operators_where_it_has_them() -> None:
    holders = [live(0, sessions=1, operators="ABCCC"), live(1, operators="ABCCC")]
    holders += [live(n, operators="ABCCC") for n in (2, 3, 4)]
    for _ in range(20):
        assert {one.member.operator for one in choose(holders, own=True)} == {"A", "B", "C"}


def test_whom_the_client_rules_out_is_left_out() -> None:
    holders = [live(n, operators="AABCD") for n in range(5)]
    first = holders[0].member.peer_id
    for _ in range(20):
        names = {one.member.name for one in choose(holders, False, Wishes(frozenset({first}), frozenset("ABC")))}
        assert names == {"peer-1", "peer-2", "peer-3"}
    with pytest.raises(RefusedError, match=r"found 2 \(5 serve the model, 1 of them of operators .*, 1 just failed"):
        choose(holders, False, Wishes(frozenset({holders[3].member.peer_id}), frozenset("ABC")))


def test_every_peer_gets_every_role() -> None:
    holders = [live(n) for n in range(3)]
    seen = Counter((one.member.name, role) for _ in range(300) for role, one in enumerate(choose(holders, own=False)))
    assert len(seen) == 9
    assert min(seen.values()) > 50


# Registry ------------------------------------------------------------------------------------------------------------


def test_the_registry_notices_who_goes_and_comes() -> None:
    with running(roster()) as (mesh, registry, _):
        gone = roster().members[1].peer_id
        mesh.down.add(gone)
        wait_until(lambda: len(registry.live()) == 4)
        assert "no answer" in registry.silence(gone)
        mesh.down.clear()
        wait_until(lambda: len(registry.live()) == 5)


def test_a_model_needs_three_peers_with_the_same_copy() -> None:
    with running(roster(3)) as (mesh, registry, _):
        assert [offer.name for offer in registry.models()] == ["stories"]
        mesh.hashes[roster().members[0].peer_id] = "f" * 64
        wait_until(lambda: registry.models() == [])
        with pytest.raises(UsageError, match="unknown model 'stories'"):
            registry.model("stories")


def test_where_copies_differ_the_majority_serves() -> None:
    with running(roster(5)) as (mesh, registry, sessions):
        odd = roster().members[4].peer_id
        mesh.hashes[odd] = "f" * 64
        wait_until(lambda: len(registry.holders(registry.model("stories"))) == 4)
        for _ in range(10):
            sessions.open(ask())
        assert odd not in {peer_id for peer_id, protocol, _ in mesh.asked if protocol == OFFER}


def test_a_manifest_that_is_not_as_announced_is_refused() -> None:
    with running(roster()) as (mesh, registry, _):
        mesh.documents[MANIFEST] = b"something else"
        with pytest.raises(PeerError, match="does not have the hash"):
            registry.manifest("stories")
        mesh.documents[MANIFEST] = MANIFEST_BYTES
        assert registry.manifest("stories") == MANIFEST_BYTES


def test_one_peer_that_forges_documents_does_not_keep_clients_from_them() -> None:
    """Each document comes from the first peer whose bytes have the right hash, the tokenizer's out of the manifest."""
    tokenizer = b'{"model": "bpe"}'
    stated = json.dumps({"tokenizer_hash": hashlib.sha256(tokenizer).hexdigest()}).encode()
    with running(roster()) as (mesh, registry, _):
        mesh.documents[MANIFEST] = stated
        mesh.hashes = dict.fromkeys(mesh.hashes, hashlib.sha256(stated).hexdigest())
        mesh.forging = {member.peer_id: b"forged" for member in roster().members[:4]}
        wait_until(lambda: registry.model("stories").manifest_hash == hashlib.sha256(stated).hexdigest())
        wait_until(lambda: len(registry.holders(registry.model("stories"))) == 5)
        assert registry.manifest("stories") == stated
        assert registry.tokenizer("stories") == tokenizer


# Sessions ------------------------------------------------------------------------------------------------------------


def test_offers_go_out_in_role_order_and_say_the_same() -> None:
    with running(roster()) as (mesh, _, sessions):
        request = ask()
        reply = sessions.open(request)
        offers = [Offer.from_bytes(question, "") for _, protocol, question in mesh.asked if protocol == OFFER]
        assert [offer.role for offer in offers] == [0, 1, 2]
        assert [offer.peers[offer.role] for offer in offers] == [peer_id for peer_id, _, _ in mesh.asked]
        for offer in offers:
            content = offer.to_json()
            assert content.pop("peers") == list(offers[0].peers)
            content.pop("role")
            wishes = {"operators": [], "without": [], "max_price": 0, "currency": ""}  # for the coordinator alone
            assert content.pop("quotes") == [quote_hash(QUOTES[peer_id]) for peer_id in offers[0].peers]
            assert content | wishes == request.to_json()
        assert [signed.payload for signed in reply.statements] == [offer.to_bytes() for offer in offers]


@pytest.mark.parametrize("how", ["down", "refusing"])
def test_a_peer_that_fails_is_replaced_and_the_others_are_told(how: str) -> None:
    with running(roster(4)) as (mesh, _, sessions):
        bad = roster().members[0].peer_id
        getattr(mesh, how).add(bad)
        for _ in range(8):
            mesh.asked.clear()
            assert isinstance(sessions.open(ask()), SessionReply)
            offered = [peer_id for peer_id, protocol, _ in mesh.asked if protocol == OFFER and peer_id != bad]
            withdrawn = [peer_id for peer_id, protocol, _ in mesh.asked if protocol == WITHDRAW]
            assert len(offered) == 3 + len(withdrawn)


def test_the_last_reason_is_given_when_there_is_no_replacement() -> None:
    with running(roster(3)) as (mesh, registry, sessions):
        mesh.refusing.add(roster().members[2].peer_id)
        with pytest.raises(RefusedError, match=r"peer-2 .*is busy with 8 sessions"):
            sessions.open(ask())
        assert (registry.store.count("opened"), registry.store.count("refused")) == (0, 1)


def test_peers_that_were_busy_are_asked_again_before_a_client_is_refused() -> None:
    with running(roster(3)) as (mesh, _, _):
        slow = Registry(mesh, interval=60)
        mesh.sessions = 8
        slow.start()
        wait_until(lambda: len(slow.live()) == 3)
        with pytest.raises(RefusedError, match="busy"):
            Sessions(mesh, slow).open(ask())
        mesh.sessions = 0
        assert isinstance(Sessions(mesh, slow).open(ask()), SessionReply)
        slow.close()


def test_clients_that_come_at_once_are_spread() -> None:
    """Between two answers of the peers the coordinator counts the seats it gave by itself."""
    with running(roster(5)) as (mesh, _, _):
        still = Registry(mesh, interval=60, patience=30)
        still.start()
        wait_until(lambda: len(still.live()) == 5)
        sessions = Sessions(mesh, still)
        for _ in range(10):
            sessions.open(ask())
        given = Counter(peer_id for peer_id, protocol, _ in mesh.asked if protocol == OFFER)
        assert sorted(given.values()) == [6] * 5
        assert sum(one.promised for one in still.live()) == 30
        still.refresh()
        assert sum(one.promised for one in still.live()) == 0
        still.close()


def test_who_failed_a_client_is_not_given_to_it_again_and_is_asked_how_it_is() -> None:
    with running(roster(4)) as (mesh, _, _):
        slow = Registry(mesh, interval=60, patience=30)
        slow.start()
        wait_until(lambda: len(slow.live()) == 4)
        sessions, bad = Sessions(mesh, slow), roster().members[1].peer_id
        for _ in range(10):
            sessions.open(ask(without=(bad,)))
        assert bad not in {peer_id for peer_id, protocol, _ in mesh.asked if protocol == OFFER}
        assert len(slow.live()) == 4  # a client's word alone drives nobody out
        mesh.down.add(bad)
        sessions.open(ask(without=(bad,)))
        wait_until(lambda: len(slow.live()) == 3)
        slow.close()


# HTTP ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def http() -> Iterator[httpx2.Client]:
    with running(roster()) as (_, registry, sessions), listen("127.0.0.1", 0) as listener:
        server = HttpServer(make_app(roster(), registry, sessions, ("echo",)), listener)
        server.await_start()
        port = listener.getsockname()[1]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
        server.close()


def test_what_is_served(http: httpx2.Client) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/v1/models").json() == [{**SUMMARY, "name": "stories", "manifest_hash": HASH}]
    assert http.get("/v1/models/stories/manifest").content == MANIFEST_BYTES
    assert http.get("/v1/models/stories/tokenizer").json() == {"model": "bpe"}
    status = http.get("/v1/status").json()
    assert [peer["live"] for peer in status["peers"]] == [True] * 5
    assert status["models"] == ["stories"]


def test_a_session_over_http_and_in_the_status(http: httpx2.Client) -> None:
    request = ask()
    response = http.post("/v1/sessions", content=request.to_bytes())
    reply = SessionReply.from_bytes(response.content, "coordinator")
    assert reply.session == request.session
    recent = http.get("/v1/status").json()["sessions"]["recent"][0]
    assert recent["session"] == request.session[:8]
    assert set(recent["roles"]) == {"compute 0", "compute 1", "dealer"}
    assert request.session not in http.get("/v1/status").text


def test_the_peers_that_a_client_may_pin(http: httpx2.Client) -> None:
    peers = http.get("/v1/peers").json()
    assert [(peer["peer_id"], peer["name"], peer["operator"]) for peer in peers] == [
        (member.peer_id, member.name, member.operator) for member in roster().members
    ]
    for peer in peers:
        assert (peer["live"], peer["version"], peer["models"]) == (True, "0.1.0", ["stories"])
        assert peer["price"] == {"currency": "EUR", "compute": "1.00", "dealer": "0.10"}
        signed = Signed.from_bytes(json.dumps(peer["quote"]).encode(), "coordinator")
        assert read_quote(signed, peer["peer_id"], "peer").compute == 1_000_000


def test_questions_are_passed_on_where_that_is_allowed(http: httpx2.Client) -> None:
    first = roster().members[0].peer_id
    answer = http.post(f"/v1/peers/{first}/echo", content=b"how are you")
    assert Signed.from_bytes(answer.content, "").payload == b"how are you"  # what FakeMesh answers


def test_questions_are_passed_on_a_few_at_a_time_and_answers_are_bounded() -> None:
    class Relaying(FakeMesh):
        answer = b"x"
        gate = threading.Event()

        def request(self, peer_id: str, protocol: str, question: bytes, timeout: float = 5.0) -> bytes:
            self.gate.wait(5)
            return self.answer

    mesh = Relaying(roster())
    relay = Relay(Registry(mesh), ("echo",))
    first = roster().members[0].peer_id
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(relay.ask, first, "echo", b"") for _ in range(AT_ONCE)]
        wait_until(lambda: not relay._free._value)
        with pytest.raises(RefusedError, match="try again in a moment"):
            relay.ask(first, "echo", b"")
        mesh.gate.set()
        assert [one.result() for one in asked] == [b"x"] * AT_ONCE
    mesh.answer = b"x" * (MAX_ANSWER + 1)
    with pytest.raises(NetworkError, match=r"peer-0 .*too many"):
        relay.ask(first, "echo", b"")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        (
            "POST",
            f"/v1/peers/{IDENTITIES[0].peer_id}/offer",
            b"",
            404,
            "unknown protocol 'offer'; passed on to peers: echo",
        ),
        ("POST", f"/v1/peers/{'w' * 43}/echo", b"", 404, "unknown peer"),
        ("POST", f"/v1/peers/{IDENTITIES[0].peer_id}/echo", b"x" * 5000, 400, "longer than 4096 bytes"),
        ("POST", "/v1/sessions", ask(max_price=1, currency="USD").to_bytes(), 503, "take USD, the client's currency"),
        ("GET", "/nowhere", b"", 404, "Not Found"),
        ("DELETE", "/v1/models", b"", 405, "Method Not Allowed"),
        ("GET", "/v1/models/gpt-9/manifest", b"", 404, "unknown model 'gpt-9'; served here: stories"),
        ("GET", "/v1/models/a%2Fb/manifest", b"", 404, "unknown model 'a/b'"),
        ("POST", "/v1/sessions", b"", 400, "malformed"),
        ("POST", "/v1/sessions", b"{}", 400, "missing or unknown fields"),
        ("POST", "/v1/sessions", b"x" * (65 << 10), 400, "longer than 65536 bytes"),
        ("POST", "/v1/sessions", json.dumps(ask(model="x").to_json()).encode(), 404, "unknown model 'x'"),
        ("POST", "/v1/sessions", ask(sizes=Sizes.of([250], 20)).to_bytes(), 400, "context of stories, which is 256"),
    ],
)
def test_errors_have_one_form(
    http: httpx2.Client, method: str, path: str, body: bytes, status: int, message: str
) -> None:
    response = http.request(method, path, content=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["type"] == ("RefusedError" if status == 503 else "UsageError")
    assert message in error["message"]

"""What streams do while nothing comes, when something breaks, and when nobody listens any more."""

from __future__ import annotations

import collections
import contextlib
import json
import threading
import time

import httpx2
import openai
import pytest
from in_the_clear import Offered, Watched, gateway
from tacit.client.gateway.asking import Limits
from tacit.errors import ConfigError, IdentityError, NetworkError, PeerError, PeerLost, RefusedError

ASK = {"model": "stories", "prompt": "Once upon a time", "max_tokens": 300, "ignore_eos": True, "stream": True}
CHAT = {"model": "stories", "messages": [{"role": "user", "content": "Once"}], "max_tokens": 8, "stream": True}
RESPONSES = {"model": "stories", "input": "Once", "max_output_tokens": 8, "stream": True}


def events(lines):
    """Data of server-sent events, and the comments between them as text."""
    for line in lines:
        if line.startswith(":"):
            yield line
        elif line.startswith("data: "):
            yield line[6:] if line == "data: [DONE]" else json.loads(line[6:])


class Scene:
    """A gateway whose sessions open when `opens` is set, and whose steps do what `step` says."""

    def __init__(self, shipped, step=lambda number: None, fails=None, **limits):
        self.opens = threading.Event()
        self.runners = []

        def start(sizes):
            self.opens.wait(20)
            if fails is not None:
                raise fails
            self.runners.append(Watched(shipped.start(sizes), step))
            return self.runners[-1]

        self.offers = Offered(shipped, start)
        self.limits = Limits(**limits)

    def __enter__(self):
        self._gateway = gateway(self.offers, limits=self.limits)
        self.url = self._gateway.__enter__() + "/v1/"
        return self

    def __exit__(self, *about):
        self.opens.set()
        self._gateway.__exit__(*about)

    def stream(self, path, body):
        return httpx2.stream("POST", self.url + path, json=body, timeout=20)

    def post(self, path, body):
        return httpx2.post(self.url + path, json=body, timeout=20)

    def idle_within(self, seconds):
        """Whether within that time nothing is in progress any more."""
        deadline = time.monotonic() + seconds
        while self.offers.batcher.busy and time.monotonic() < deadline:
            time.sleep(0.005)
        return not self.offers.batcher.busy


@pytest.mark.parametrize(
    ("path", "body", "kind", "comments"),
    [
        ("completions", ASK | {"return_progress": True, "max_tokens": 8}, "text_completion", 0),
        ("chat/completions", CHAT | {"return_progress": True}, "chat.completion.chunk", 2),
        ("responses", RESPONSES, None, 0),
    ],
)
def test_nothing_looks_frozen_while_a_session_opens(shipped, path, body, kind, comments):
    with Scene(shipped) as scene:
        asked = time.monotonic()
        with scene.stream(path, body) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            told = events(answer.iter_lines())
            first = next(told)
            assert time.monotonic() - asked < 1.0
            assert first.get("object") == kind
            for place in range(comments):  # a second apart
                assert next(one for one in told if isinstance(one, str)).startswith(":")
                assert time.monotonic() - asked < 2.5 + place
            scene.opens.set()
            rest = list(told)
            assert rest[-1] == "[DONE]" if kind else rest[-1]["type"] == "response.incomplete"


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (RefusedError("coordinator", "needs three free peers, found 2"), 503, "refused", "true"),
        (NetworkError("no coordinator at http://127.0.0.1:1"), 503, "unreachable", "true"),
        (PeerLost("peer-1", "went away"), 503, "peer_lost", "false"),
        (PeerError("peer-1", "sent nonsense"), 502, "peer_error", "false"),
        (IdentityError("peer-1", "is not pinned"), 502, "identity", "false"),
        (ConfigError("cluster.json is gone"), 503, "misconfigured", "false"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_session_that_does_not_open_is_an_ordinary_error(shipped, error, status, code, retry, stream):
    with Scene(shipped, fails=error) as scene:
        scene.opens.set()
        for path, body in (("completions", ASK), ("chat/completions", CHAT), ("responses", RESPONSES)):
            answer = scene.post(path, body | {"stream": stream})
            assert answer.status_code == status
            assert answer.headers["x-should-retry"] == retry
            assert answer.json()["error"] == {
                "message": str(error),
                "type": "server_error",
                "param": None,
                "code": code,
            }


def test_the_client_tries_again_where_that_may_help_and_not_where_it_costs(shipped):
    for error, times in ((RefusedError("coordinator", "busy"), 3), (PeerLost("peer-1", "went away"), 1)):
        with Scene(shipped, fails=error) as scene:
            scene.opens.set()
            asked = []
            scene.offers.batcher._start = lambda sizes, raised=error, asked=asked: asked.append(1) or _raise(raised)
            client = openai.OpenAI(base_url=scene.url, api_key="-", max_retries=2)
            with client, pytest.raises(openai.InternalServerError):
                client.completions.create(model="stories", prompt="Once")
            assert len(asked) == times


def _raise(error):
    raise error


def test_a_session_that_does_not_open_in_time_ends_the_stream_with_its_error(shipped):
    scene = Scene(shipped, fails=RefusedError("coordinator", "needs three free peers"))
    with scene, scene.stream("chat/completions", CHAT) as answer:
        told = events(answer.iter_lines())
        next(told)
        scene.opens.set()
        assert list(told)[-1]["error"]["code"] == "refused"


LOSS = PeerLost("peer-1", "went away; the answer could not go on: nobody is left")


def lose_once():
    """What a step does: the sixth of all fails."""
    failed = []

    def step(number):
        if number == 6 and not failed:
            failed.append(number)
            raise LOSS

    return step


def test_a_loss_in_the_middle_keeps_what_came_and_ends_with_the_error(shipped):
    with Scene(shipped, step=lose_once()) as scene:
        scene.opens.set()
        with openai.OpenAI(base_url=scene.url, api_key="-", max_retries=0) as client:
            chunks = []
            answer = client.completions.create(
                model="stories", prompt="Once upon a time", max_tokens=50, temperature=0, stream=True
            )
            with pytest.raises(openai.APIError, match="peer-1: went away") as caught:
                collections.deque(map(chunks.append, answer))
            assert caught.value.code == "peer_lost"
            assert "".join(chunk.choices[0].text for chunk in chunks) == ", there was a little"
            told = list(client.responses.create(model="stories", input="Once", temperature=0, stream=True))
            assert told[-1].type in ("response.completed", "response.incomplete")  # the next session works


def test_a_loss_in_the_middle_of_a_response(shipped):
    with Scene(shipped, step=lose_once()) as scene:
        scene.opens.set()
        with scene.stream("responses", RESPONSES | {"max_output_tokens": 100}) as answer:
            told = list(events(answer.iter_lines()))
    assert len([one for one in told if "delta" in one]) == 5
    assert told[-1]["type"] == "response.failed"
    assert told[-1]["response"]["error"]["message"].startswith("peer-1: went away")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["completions", "chat/completions", "responses"])
def test_who_leaves_cancels_at_once(shipped, path, stream):
    with Scene(shipped, step=lambda step: time.sleep(0.02)) as scene:
        scene.opens.set()
        body = {"completions": ASK, "chat/completions": CHAT | {"max_tokens": 300}, "responses": RESPONSES}[path]
        body = (
            body | {"stream": stream, "ignore_eos": True} | ({"max_output_tokens": 300} if path == "responses" else {})
        )
        with (
            contextlib.suppress(httpx2.ReadTimeout),
            httpx2.stream("POST", scene.url + path, json=body, timeout=0.4) as got,
        ):
            lines = got.iter_lines()
            for _ in range(10):
                next(lines)
        left = time.monotonic()
        assert scene.idle_within(1.0)
        assert scene.runners[0].ended.wait(1.0 - (time.monotonic() - left))
        assert scene.runners[0].steps < 100


def test_who_leaves_while_the_session_opens_cancels_too(shipped):
    with Scene(shipped) as scene:
        with scene.stream("completions", ASK) as answer:
            next(answer.iter_lines())
        time.sleep(0.2)
        scene.opens.set()
        assert scene.idle_within(1.0)
        assert scene.runners[0].steps <= 1
        assert scene.runners[0].ended.wait(1)


def test_others_go_on_when_one_leaves(shipped):
    with Scene(shipped, step=lambda step: time.sleep(0.01)) as scene:
        scene.opens.set()
        found = {}
        body = ASK | {"stream": False, "max_tokens": 60, "temperature": 0, "ignore_eos": False}
        thread = threading.Thread(target=lambda: found.update(scene.post("completions", body).json()))
        thread.start()
        with scene.stream("completions", ASK | {"prompt": "The big dog"}) as answer:
            next(answer.iter_lines())
        thread.join(20)
        assert found["usage"]["completion_tokens"] > 20
        assert scene.idle_within(1.0)


def test_too_much_at_once_is_refused_and_may_be_tried_again(shipped):
    with Scene(shipped, answers=3) as scene:
        with scene.stream("completions", ASK | {"n": 3}) as answer:
            refused = scene.post("completions", ASK)
            assert refused.status_code == 503
            assert refused.headers["x-should-retry"] == "true"
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["error"]["code"] == "busy"
            assert answer.status_code == 200
        scene.opens.set()
        assert scene.idle_within(1.0)
        assert scene.post("completions", ASK | {"stream": False, "n": 3, "max_tokens": 2}).status_code == 200
        too_many = scene.post("completions", ASK | {"n": 4})
        assert too_many.status_code == 503


def test_usage_names_the_operators(shipped):
    with Scene(shipped) as scene:
        scene.opens.set()
        answer = scene.post("completions", ASK | {"stream": False, "max_tokens": 2}).json()
        assert answer["usage"]["operators"] == ["Alice", "Bob", "Carol"]


def test_a_gateway_that_stops_ends_its_streams(shipped):
    with Scene(shipped, step=lambda step: time.sleep(0.02)) as scene:
        scene.opens.set()
        with scene.stream("completions", ASK) as answer:
            told = events(answer.iter_lines())
            next(told)
            scene.offers.batcher.close()
            assert list(told)[-1]["error"]["code"] == "unreachable"

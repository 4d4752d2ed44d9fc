"""`tacit serve` as docs/openai.md has it typed: a process of its own, a real cluster, the clients that people use."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import openai
import pytest
from tacit.client import state
from tacit.client.directory import Directory

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "openai.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)(?: ([a-z]+))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
EXPECTED = json.loads((ROOT / "models" / "stories" / "expected.json").read_text())["cases"][0]
PROMPT = EXPECTED["prompt"]
CANARY = "Zebedee"
START_SECONDS = 60


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Typist:
    """Types blocks of the page into a shell of its own; on this machine the gateways' ports may be taken."""

    def __init__(self, folder):
        tools = folder / "bin"
        tools.mkdir(parents=True)
        tacit = tools / "tacit"
        tacit.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m tacit.client.cli "$@"\n')
        tacit.chmod(0o755)
        self.folder = folder
        self.ports = {"8080": str(free_port()), "8081": str(free_port())}
        self.environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(folder),
            "TACIT_STATE": str(folder / "state"),
        }
        for name in ("TACIT_CLUSTER", "TACIT_SERVE_TOKEN"):
            self.environment.pop(name, None)

    def there(self, text):
        for port, other in self.ports.items():
            text = text.replace(port, other)
        return text

    def stay(self, text, *, ignoring_interrupts=False):
        """A gateway that goes on. As a job in the background of a shell, which does not get Ctrl-C."""
        if "--port" not in text:
            text = f"{text.strip()} --port 8080"
        before = "trap '' INT; " if ignoring_interrupts else ""
        log = (self.folder / f"serve-{time.monotonic_ns()}.log").open("w+")
        process = subprocess.Popen(
            ["bash", "-c", before + "exec " + self.there(text)],
            env=self.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        process.log = Path(log.name)
        deadline = time.monotonic() + START_SECONDS
        while "Ctrl-C stops it" not in process.log.read_text():
            assert process.poll() is None, process.log.read_text()
            assert time.monotonic() < deadline, process.log.read_text()
            time.sleep(0.05)
        return process

    def run(self, words, text=None, seconds=60):
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False, input=text
        )


def blocks(language, how=""):
    return [text for kind, said, text in BLOCKS if (kind, said) == (language, how)]


@pytest.fixture(scope="module")
def typist(tmp_path_factory):
    return Typist(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def serving(typist):
    """The gateway as the page starts it; with a cluster of its own, since none is running."""
    process = typist.stay(blocks("sh", "stays")[0], ignoring_interrupts=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def url(typist, serving):
    return f"http://127.0.0.1:{typist.ports['8080']}/v1"


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=url, api_key="-", max_retries=0, timeout=60) as found:
        yield found


@pytest.fixture(scope="module")
def coordinator(serving, typist):
    """What the coordinator of that cluster says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_STATE", typist.environment["TACIT_STATE"])
        directory = Directory(state.running()[0].url)
    yield directory
    directory.close()


def seated(coordinator):
    """Sessions that are open at peers."""
    return sum(peer["sessions"] for peer in coordinator.status()["peers"])


def test_it_says_where_it_is_and_what_to_type(serving, url):
    said = serving.log.read_text()
    assert f"{url} answers programs that speak the OpenAI API. Models: stories" in said
    assert f"openai.OpenAI(base_url='{url}', api_key='-')" in said
    assert f"export OPENAI_BASE_URL={url} OPENAI_API_KEY=-" in said
    assert "Private:" in said
    assert "warning" not in said


def test_what_the_page_has_typed_works(typist, serving):
    (program,) = blocks("python")
    done = typist.run([sys.executable, "-P", "-c", typist.there(program)])
    assert done.returncode == 0, done.stderr
    assert EXPECTED["greedy_text"].startswith(done.stdout)
    assert len(done.stdout) > 80
    shell = next(text for text in blocks("sh") if "curl" in text)
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    done = typist.run(["bash", "-euo", "pipefail", "-c", typist.there(shell)])
    assert done.returncode == 0, done.stderr
    assert '"id":"stories"' in done.stdout
    assert done.stdout.rstrip().endswith("data: [DONE]")


def test_private_tokens_are_the_plaintext_models(client):
    found = client.completions.create(model="stories", prompt=PROMPT, max_tokens=32, temperature=0)
    assert found.usage.prompt_tokens == len(EXPECTED["prompt_ids"])
    assert EXPECTED["greedy_text"].startswith(found.choices[0].text)
    assert found.usage.model_extra["currency"] == "EUR"
    assert found.usage.model_extra["operators"] == ["this machine"]


def test_requests_at_the_same_time_share_a_session(client, coordinator):
    prompts = [PROMPT, "The big dog", "Mia went to the", "Ben and his cat"]

    def ask(prompt):
        return client.completions.create(model="stories", prompt=prompt, max_tokens=12, temperature=0).choices[0].text

    alone = [ask(prompt) for prompt in prompts]
    with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
        together = list(pool.map(ask, prompts))
    assert together == alone
    assert seated(coordinator) <= 3  # one session, at three peers


def test_a_cancelled_stream_frees_the_peers_within_a_second(client, coordinator):
    stream = client.chat.completions.create(
        model="stories",
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
        max_tokens=400,
        extra_body={"ignore_eos": True},
    )
    for place, _ in enumerate(stream):
        if place == 5:
            break
    stream.close()
    left = time.monotonic()
    while seated(coordinator):
        assert time.monotonic() - left < 1.5  # peers tell the coordinator what they do every half second
        time.sleep(0.02)


def test_litellm(url, monkeypatch):
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("litellm is not installed")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch one
    import litellm

    settings = {"model": "openai/stories", "api_base": url, "api_key": "-", "temperature": 0, "max_tokens": 8}
    settings["messages"] = [{"role": "user", "content": PROMPT}]
    whole = litellm.completion(**settings)
    text = whole.choices[0].message.content
    assert text
    assert whole.usage.completion_tokens == 8
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**settings, stream=True)) == text
    )
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**settings | {"messages": [{"role": "user", "content": "word " * 600}]})


def test_no_log_holds_a_word_of_it(serving, typist, client, url):
    told = [
        client.completions.create(model="stories", prompt=f"{CANARY} sat down", max_tokens=4).choices[0].text,
        client.chat.completions.create(model="stories", messages=[{"role": "user", "content": CANARY}], max_tokens=4),
    ]
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="stories", prompt=f"{CANARY} " * 300)
    for body in (f'{{"prompt": "{CANARY}"', f'{{"{CANARY}": 1}}'):
        httpx2.post(f"{url}/completions?{CANARY}", content=body, headers={"Content-Type": "application/json"})
    httpx2.get(f"{url}/{CANARY}")
    stream = client.completions.create(model="stories", prompt=f"{CANARY} ran", stream=True, max_tokens=200)
    next(iter(stream))
    stream.close()
    assert told
    logs = [serving.log, *Path(typist.environment["TACIT_STATE"]).rglob("*.log")]
    assert len(logs) > 3
    assert not [log for log in logs if CANARY in log.read_text()]


def test_a_token_is_made_and_wanted(typist, serving):
    process = typist.stay(
        blocks("sh", "stays")[1] if len(blocks("sh", "stays")) > 1 else _with_token() + " --host 0.0.0.0"
    )
    try:
        token = (typist.folder / ".tacit-token").read_text().strip()
        assert token not in process.log.read_text()
        where = f"http://127.0.0.1:{typist.ports['8081']}"
        with openai.OpenAI(base_url=f"{where}/v1", api_key="wrong", max_retries=0) as wrong:
            with pytest.raises(openai.AuthenticationError):
                wrong.models.list()
            assert wrong.with_options(api_key=token).models.list().data[0].id == "stories"
        assert httpx2.get(f"{where}/health").status_code == 200
        assert "warning: other machines can reach this" in process.log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def _with_token():
    """The page's command."""
    return next(text for text in blocks("sh") if "--token-file" in text).strip()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "give a token"),
        (["--cluster", "nowhere"], "is no cluster"),
        (["--model", "nothing"], "does not serve"),
    ],
)
def test_what_cannot_be_is_said_at_once(typist, serving, arguments, words):
    done = typist.run(["tacit", "serve", "--port", "0", *arguments])
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(typist, serving):
    done = typist.run(["tacit", "serve", "--port", typist.ports["8080"]])
    assert done.returncode == 1
    assert "the port is in use" in done.stderr


def test_it_ends_with_its_cluster_and_its_streams(typist, serving, client):
    """Last in this module. It was started where SIGINT is ignored, and heeds it all the same."""
    ended = threading.Event()

    def read():
        with pytest.raises(openai.APIError, match="closed"):
            list(
                client.completions.create(
                    model="stories", prompt=PROMPT, stream=True, max_tokens=400, extra_body={"ignore_eos": True}
                )
            )
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.5)
    serving.send_signal(signal.SIGINT)
    assert serving.wait(10) == 0
    assert ended.wait(5)
    reader.join()
    assert serving.log.read_text().rstrip().endswith("stopping")
    assert not list(Path(typist.environment["TACIT_STATE"]).rglob("cluster.json"))

"""`tacit chat` and `Client.chat` over real peers: turns, Ctrl-C on a terminal, silence, what is stored, forms on shares."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import tacit
from tacit.client import launch, talk
from tacit.client.plain import PlainModel

STORIES = Path(__file__).resolve().parents[2] / "models" / "stories"
TACIT = [sys.executable, "-P", "-m", "tacit.client.cli"]
GREEDY = ["--temperature", "0"]
PATIENCE = 4.0  # of the peers, in seconds


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_STATE", str(tmp_path_factory.mktemp("state")))
        patch.delenv("TACIT_CLUSTER", raising=False)
        real = launch.Child

        def child(name, module, arguments, *rest):
            patience = ["--client-timeout", str(PATIENCE)] if module == launch.PEER_MODULE else []
            return real(name, module, [*patience, *arguments], *rest)

        patch.setattr(launch, "Child", child)
        with tacit.Cluster() as found:
            yield found


@pytest.fixture(scope="module")
def client(cluster):
    with tacit.Client(cluster) as found:
        yield found


def run(cluster, lines: str, *options: str, **more) -> subprocess.CompletedProcess[str]:
    command = [*TACIT, "chat", "--cluster", str(cluster.roster_path), *options]
    return subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120, check=False, **more)


def test_turns_on_shares_are_those_of_the_model_in_the_clear(client):
    """Greedy, with tokens kept from turn to turn, taken back and said again."""
    plain = PlainModel()
    with client.chat(temperature=0, max_new_tokens=16) as chat:
        for say in (
            lambda: chat.say("Tell me a story about a robot."),
            lambda: chat.say("Then he"),
            lambda: chat.retry(),
            lambda: chat.say("Write a story about a cat."),
        ):
            turn = say()
            expected = plain.generate(turn.answer.prompt, max_new_tokens=16, temperature=0).complete()
            said = turn.complete()
            assert said.token_ids == expected.token_ids
            assert said.text == expected.text
            if len(chat.messages) > 2:
                assert said.cached_tokens > 8
            assert said.cost.rounds == 59 * (said.fed_tokens - said.usage.prompt_tokens + said.cached_tokens + 1)
        stats = chat.stats
    assert stats.sessions == 1
    assert chat.stats.receipts == 2


def test_a_silence_longer_than_the_peers_patience_is_no_loss(client, caplog):
    heard = []
    with client.chat(temperature=0, max_new_tokens=4, on_resume=heard.append) as chat:
        chat.say("Once upon a time").complete()
        time.sleep(PATIENCE + 0.7)
        said = chat.say("Then").complete()
        assert (said.cached_tokens, chat.stats.sessions) == (0, 2)
        assert len(said.token_ids) == 4
    assert heard == []


def test_lines_in_answers_out_and_nothing_is_stored(cluster, tmp_path):
    saved = tmp_path / "kept.json"
    expected = json.loads((STORIES / "expected.json").read_text())["cases"][0]
    lines = (
        f"Once upon a time\n/stats\n\n/save {saved}\n/save {saved}\n/undo\n//slash\\\nsecond line\n/quit\nnever said\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "XDG_DATA_HOME": str(home / "data")}
    done = run(cluster, lines, *GREEDY, "--max-new-tokens", "12", "--no-receipt", env=env)
    assert done.returncode == 0, done.stderr
    first = expected["greedy_text"]
    assert done.stdout.startswith(first[:40])
    assert first.startswith(done.stdout.splitlines()[0])
    assert re.search(r"at the peers\s+16 of 512 tokens, session 1", done.stderr)
    assert "taken back" in done.stderr
    kept = json.loads(saved.read_text())
    assert kept["messages"][0] == {"role": "user", "content": "Once upon a time"}
    assert first.startswith(kept["messages"][1]["content"])
    assert saved.stat().st_mode & 0o777 == 0o600
    assert [path for path in home.rglob("*") if path.is_file()] == []
    logs = "".join(path.read_text() for path in cluster.roster_path.parent.glob("*.log"))
    assert "session" in logs
    assert "Once" not in logs
    assert "slash" not in logs


def test_a_system_message_goes_before_and_markdown_is_for_people(cluster, tmp_path):
    saved = tmp_path / "kept.md"
    done = run(cluster, f"/system\nMia\n/save {saved}\n", *GREEDY, "--max-new-tokens", "3", "--system", "A tale.")
    assert done.returncode == 0, done.stderr
    assert "system: A tale." in done.stderr
    assert saved.read_text().startswith("# A conversation with stories\n\n**system**\n\nA tale.\n\n**user**\n\nMia\n\n")


@pytest.mark.parametrize(
    ("lines", "options", "reason"),
    [
        ("/nonsense\n", (), "no command /nonsense"),
        ("x " * 600 + "\n", (), "room for 512"),
        ("hello\n", ("--context", "600"), "context of 600"),
        ("hello\n", ("--model", "other"), "'other'"),
    ],
)
def test_without_a_terminal_an_error_ends_it(cluster, lines, options, reason):
    done = run(cluster, lines, *options)
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
    assert reason in done.stderr
    assert "x x x" not in done.stderr


class Terminal:
    """`tacit chat` on a pseudo-terminal that controls it, so that Ctrl-C is a key."""

    def __init__(self, cluster, *options: str) -> None:
        self.pid, self.owner = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "dumb"
            os.execv(sys.executable, [*TACIT, "chat", "--cluster", str(cluster.roster_path), *options])
        self.seen, self.ended = "", False

    def until(self, pattern: str, seconds: float = 40) -> str:
        """What came up to here, and is then forgotten."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < deadline, self.seen
            self.seen += os.read(self.owner, 65536).decode(errors="replace")
        text, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return text

    def prompt(self) -> None:
        """Wait until it waits: a signal between what is written and the wait is seen at the next key only."""
        self.until(r"> $")
        time.sleep(0.3)

    def type(self, text: str) -> None:
        os.write(self.owner, text.encode())

    def close(self) -> int:
        """Its exit status, once it has ended by itself."""
        deadline = time.monotonic() + 30
        while (found := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            assert time.monotonic() < deadline, self.seen
            time.sleep(0.02)
        self.ended = True
        return os.waitstatus_to_exitcode(found[1])

    def end(self) -> None:
        """However the test ended."""
        os.close(self.owner)
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@pytest.fixture
def opened(cluster):
    """Terminals with `tacit chat` on them."""
    found: list[Terminal] = []

    def open_(*options: str) -> Terminal:
        found.append(Terminal(cluster, *options))
        return found[-1]

    yield open_
    for terminal in found:
        terminal.end()


CTRL_C, CTRL_D = "\x03", "\x04"


def test_ctrl_c_stops_an_answer_and_keeps_the_session(opened):
    terminal = opened(*GREEDY, "--max-new-tokens", "400")
    terminal.until(r"Ctrl-D ends")
    terminal.prompt()
    terminal.type("Tell me a story about a robot.\n")
    terminal.until("Once upon a time")
    terminal.type(CTRL_C)
    assert "Hazel was very proud" not in terminal.until("stopped; what was said by then stands")
    terminal.prompt()
    terminal.type(CTRL_C)  # at the prompt it ends nothing
    terminal.until("/quit or Ctrl-D ends")
    terminal.type("Tell me a story about a cat.\n")
    terminal.until("Once upon a time")
    terminal.type(CTRL_C)
    terminal.until("stopped; what was said by then stands")
    terminal.type("/stats\n")
    shown = terminal.until(r"peer-2[^\n]*\n")
    assert re.search(r"before it\s+\d+ tokens, \d\d+ of them kept", shown)
    assert "session 1" in shown
    terminal.prompt()
    terminal.type(CTRL_D)
    assert terminal.close() == 0


def test_on_a_terminal_an_error_is_said_and_the_talk_goes_on(opened):
    terminal = opened()
    for typed, shown in (
        ("/nonsense", "error: there is no command /nonsense"),
        ("/retry", "error: nothing was said"),
        ("/save", "error: /save needs the name"),
        ("/save /proc/nowhere/x", "error: [^\n]*cannot be written"),
        ("/undo", "nothing to take back"),
        ("/system Be kind.", "system: Be kind."),
        ("/system -", r"system: \(nothing\)"),
        ("/help", "/stats"),
        ("x " * 600, "error: [^\n]*room for\\s+512"),
    ):
        terminal.prompt()
        terminal.type(typed + "\n")
        terminal.until(shown)
    terminal.prompt()
    terminal.type("/quit\n")
    assert terminal.close() == 0


def test_a_terminal_that_goes_away_ends_it(opened):
    terminal = opened()
    terminal.prompt()
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.close() == 128 + signal.SIGTERM


def test_forms_on_shares(client, cluster, tmp_path):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "old": {"type": "boolean"}},
        "required": ["name", "old"],
        "additionalProperties": False,
    }
    result = client.complete("Once upon a time", json_schema=schema, max_new_tokens=60)
    assert result.finish_reason == "stop"
    assert set(json.loads(result.text)) == {"name", "old"}
    assert client.complete("Once", grammar='start: "yes" | "no"', max_new_tokens=9).text in ("yes", "no")
    choices = client.complete_all(["Once"], n=2, temperature=1.0, json_schema=schema, max_new_tokens=60)
    assert all(set(json.loads(one.text)) == {"name", "old"} for one in choices[0].choices)
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    command = [*TACIT, "ask", "--cluster", str(cluster.roster_path), "--json-schema", str(file), "Mia"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert set(json.loads(done.stdout)) == {"name", "old"}, done.stderr
    file.write_text("[]")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "a JSON schema is an object" in done.stderr


PAGE = Path(__file__).resolve().parents[2] / "docs" / "chat.md"


def test_the_page_names_every_command_and_its_program_runs(cluster, monkeypatch, capsys):
    page = PAGE.read_text()
    assert [command for command, _ in talk.HELP if command.startswith("/") and command not in page] == []
    code = re.search(r"\n    import tacit\n(?:    .*\n)+", page)
    assert code is not None
    monkeypatch.setenv("TACIT_CLUSTER", str(cluster.roster_path))
    exec(compile(textwrap.dedent(code[0]), str(PAGE), "exec"), {})
    said = capsys.readouterr().out
    assert "Once upon a time" in said
    assert "Stats(turns=2" in said

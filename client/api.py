"""`Client`: ask a cluster privately, from Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, UsageError
from ..members import Pinned, Roster
from ..transport import new_context
from . import state
from .catalogue import Catalogue
from .connect import Opener
from .directory import Directory
from .generation import Generation, Runner
from .policy import Policy
from .receipts import Book
from .results import Completion, Resume
from .resume import ResumingSession
from .sampling import Sampling

if TYPE_CHECKING:
    from .launch import Cluster

DEFAULT_NEW_TOKENS = 128


class Client:
    """Splits prompts into shares for a cluster's peers, and puts their answers together.

    ``with tacit.Client() as client: print(client.complete("Once upon a time"))``

    Errors are those of `tacit.errors`; none of them shows a prompt. A client is for one thread at a time.
    """

    def __init__(
        self,
        cluster: str | Path | Cluster | None = None,
        *,
        model: str | None = None,
        timeout: float = 60.0,
        policy: Policy | None = None,
        keep_receipts: bool = True,
    ) -> None:
        """`cluster`: a cluster.json (it pins the peers and names the coordinator), or a `Cluster` of this process.

        None: the one that TACIT_CLUSTER names, else the newest that runs on this machine, else one that this client
        starts for itself and stops when closed (needs the [peer] extra). `model`: the default for every request.
        `timeout`: seconds that one step may take. `policy`: whom to accept as peers, and how often to go on without one
        that was lost. `keep_receipts`: store what the peers sign (`tacit receipts` shows it).
        Raises ConfigError, UsageError or NetworkError.
        """
        self._own: Cluster | None = None
        policy = policy or Policy()
        self._book = Book() if keep_receipts else None
        path = _roster_path(cluster)
        if path is None:
            from .launch import DEFAULT_MODEL
            from .launch import Cluster as Launched

            self._own = Launched(model=model or DEFAULT_MODEL).start()
            path, model = self._own.roster_path, None
        self._pinned: Pinned = Roster.load(path)
        try:
            self._policy = policy.admitted(self._pinned)
        except UsageError:
            if self._own is not None:
                self._own.stop()
            raise
        self._model = model
        self._timeout = timeout
        self._directory = Directory(self._pinned.url, timeout=timeout)
        self._catalogue = Catalogue(self._directory, f"coordinator at {self._pinned.url}")
        self._context = new_context()

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        model: str | None = None,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        logprobs: bool = False,
        top_logprobs: int = 0,
        on_resume: Callable[[Resume], None] = lambda resume: None,
    ) -> Generation:
        """An answer that streams: iterate it for pieces of text, then read its `result`.

        `prompt` is text, or a list of token ids taken as they are. Temperature 0 takes the most likely token each time.
        Raises UsageError at once for a request that cannot be met (a prompt longer than the model's context, an unknown
        model, a setting out of range); nothing has been sent then. PeerLost, PeerError, RefusedError or NetworkError
        may come while it streams; what was received stays in `text` and `token_ids`. A peer that is lost on the way is
        such an error only if no other committee can go on; else `on_resume` is told, and `result.resumes` lists it.
        """
        self._check_open()
        sampling = Sampling(temperature, top_k, top_p, seed, logprobs, top_logprobs)
        found = self._catalogue.get(model or self._model)

        def start(prompt_tokens: int, new_tokens: int) -> Runner:
            opener = Opener(
                self._context, self._directory, self._pinned, found.facts, self._timeout, self._book, self._policy.most
            )
            return ResumingSession(opener, self._policy, prompt_tokens, new_tokens, on_resume)

        return Generation(
            found.facts,
            found.tokenizer,
            prompt,
            start,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop=(stop,) if isinstance(stop, str) else stop,
        )

    def complete(self, prompt: str | Sequence[int], **settings: Any) -> Completion:
        """The whole answer at once; settings and errors as for `generate`."""
        return self.generate(prompt, **settings).complete()

    def models(self) -> list[str]:
        """Names of the models that can be asked."""
        self._check_open()
        return self._catalogue.names()

    def describe_models(self) -> list[dict[str, Any]]:
        """What the coordinator says of each model: name, architecture, layers, vocab, context, manifest_hash ..."""
        self._check_open()
        return self._directory.models()

    def status(self) -> dict[str, Any]:
        """What the coordinator says of peers, sessions and models."""
        self._check_open()
        return self._directory.status()

    def close(self) -> None:
        """Let go of the cluster, and stop it if this client started it. Closing twice is fine."""
        if not self._context.closed:
            self._directory.close()
            self._context.destroy(linger=1000)
        if self._own is not None:
            self._own.stop()

    def _check_open(self) -> None:
        if self._context.closed:
            raise UsageError("this client is closed")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _roster_path(cluster: str | Path | Cluster | None) -> Path | None:
    """The cluster.json to use; None if there is none and a cluster has to be started."""
    if isinstance(cluster, str | Path):
        return Path(cluster)
    if cluster is not None:
        if not cluster.url:
            raise UsageError("this cluster is not running: call its start(), or use it in a `with`")
        return cluster.roster_path
    return find_roster()


def find_roster() -> Path | None:
    """The cluster.json that TACIT_CLUSTER names, else that of the newest cluster running on this machine, else None."""
    if named := os.environ.get("TACIT_CLUSTER"):
        if not Path(named).is_file():
            raise ConfigError(f"TACIT_CLUSTER is {named}, which is no file: name a cluster.json, or unset it")
        return Path(named)
    found = state.running()
    return Path(found[0].roster) if found else None

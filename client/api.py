"""`Client`: ask a cluster privately, from Python."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..checks import PROTOCOLS
from ..config import Config
from ..errors import TacitError, UsageError
from ..sizes import Sizes
from ..tracing.recorder import Traces
from ..transport import new_context
from .answer import Answer, ModelFacts
from .batcher import IDLE, SEQUENCES, Batcher
from .catalogue import PROTOCOL, Catalogue, Model
from .connect import Opener
from .constraints import Constraint, wanted_form
from .conversation import Conversation
from .directory import Directory
from .embedding import Embeddings, Text, embed
from .generation import Generation, Runner
from .many import complete_all
from .policy import Policy, configured_policy
from .receipts import Book
from .resolve import Reference, find
from .results import Choices, Completion, Resume
from .resume import ResumingSession
from .sampling import Sampling
from .shapes import shaped_network
from .templates import ChatTemplate
from .tokens import Tokenizer

if TYPE_CHECKING:
    from .launch import Cluster

log = logging.getLogger("tacit.client")

CHAT_TEMPERATURE = 0.7  # a conversation in which the same words come again and again is none


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
        timeout: float | None = None,
        policy: Policy | None = None,
        keep_receipts: bool | None = None,
        trust_on_first_use: bool = False,
        trace: str | Path | None = None,
        notice: Callable[[str], None] = log.warning,
    ) -> None:
        """`cluster`: a cluster.json or cluster.toml (it pins the peers and names the coordinator), a name in config.toml, a
        coordinator's address (peers are pinned by `tacit peers pin`), or a `Cluster` of this process.

        None: the one that TACIT_CLUSTER or default_cluster of config.toml names, else the newest that runs on this
        machine, else one that this client starts for itself and stops when closed (needs the [peer] extra).
        `model`: the default for every request. `timeout`: seconds that one step may take. `policy`: whom to accept as
        peers, and how often to go on without one that was lost. `keep_receipts`: store what the peers sign
        (`tacit receipts` shows it). For these None means: as set in config.toml or by a TACIT_* variable.
        `trust_on_first_use`: where no peer is pinned yet, pin those that the coordinator shows, at its word. `trace`: a
        folder in which to leave what each answer spends its time on at this client (no content; see docs/tracing.md); None:
        that of a `Cluster` given here, if it traces. `notice` is told of every pin made so, of every new key that was
        followed, and of a trace that could not be written.
        Raises ConfigError, UsageError or NetworkError; on first use also PeerError.
        """
        self._own: Cluster | None = None
        self._config = Config.load()
        meant = _meant(cluster, self._config)
        self._named = meant.name if meant else None
        self._timeout = self._setting("timeout", timeout)
        if trace is None and cluster is not None and not isinstance(cluster, str | Path):
            trace = cluster.trace
        self._traces = None if trace is None else Traces(trace, notice)
        self._model: str | None = self._setting("model", model)
        self._book = Book() if self._setting("keep_receipts", keep_receipts) else None
        policy = policy or configured_policy(self._config, self._named)
        if meant is None:
            from .launch import DEFAULT_MODEL
            from .launch import Cluster as Launched

            self._own = Launched(model=self._model or DEFAULT_MODEL).start()
            meant, self._model = Reference("the new cluster", file=self._own.roster_path), None
        try:
            self._pinned = meant.pinned(trust_on_first_use=trust_on_first_use, say=notice, timeout=self._timeout)
            self._policy = policy.admitted(self._pinned)
            self._network = shaped_network(meant)
        except TacitError:
            if self._own is not None:
                self._own.stop()
            raise
        self._directory = Directory(self._pinned.url, timeout=self._timeout)
        self._catalogue = Catalogue(self._directory, f"coordinator at {self._pinned.url}")
        self._context = new_context()
        self._templates: dict[str, ChatTemplate] = {}
        self._conversations: list[Conversation] = []

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        model: str | None = None,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        logprobs: bool = False,
        top_logprobs: int = 0,
        ignore_eos: bool = False,
        logit_bias: Mapping[int, float] | None = None,
        response_format: Mapping[str, Any] | None = None,
        json_schema: Mapping[str, Any] | None = None,
        grammar: str | None = None,
        protocol: str = PROTOCOL,
        pad_prompt: bool = False,
        on_resume: Callable[[Resume], None] = lambda resume: None,
    ) -> Generation:
        """An answer that streams: iterate it for pieces of text, then read its `result`.

        `prompt` is text, or a list of token ids taken as they are. `max_new_tokens`: None for what is
        set, else 128. Temperature 0 takes the most likely token each time. `ignore_eos`: go on after an end-of-text token,
        for measurements that need answers of one length. `logit_bias`: added to the logits of these token ids, -100 to 100.
        One of `response_format` (as in OpenAI's API), `json_schema` and `grammar` (Lark's notation) holds the answer to a form:
        if it ends by "stop", it has that form; the peers learn nothing of it (needs the [chat] extra).
        `pad_prompt`: hide the prompt's length (see `padding`; costs what a prompt of the padded length does).
        `protocol`: "pair", or "crypten" to compare it with (see
        docs/crypten.md: it protects less, and its peers need CrypTen).
        Raises UsageError at once for a request that cannot be met (a prompt longer than the model's context, an unknown
        model, a setting out of range); nothing has been sent then. PeerLost, PeerError, RefusedError or NetworkError
        may come while it streams; what was received stays in `text` and `token_ids`. A peer that is lost on the way is
        such an error only if no other committee can go on; else `on_resume` is told, and `result.resumes` lists it.
        """
        answer = self.answer(
            prompt,
            model=model,
            protocol=protocol,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            stop=stop,
            logprobs=logprobs,
            top_logprobs=top_logprobs,
            ignore_eos=ignore_eos,
            logit_bias=logit_bias,
            response_format=response_format,
            json_schema=json_schema,
            grammar=grammar,
            pad_prompt=pad_prompt,
        )
        return Generation(answer, self._starter(answer.model, on_resume, pad_prompt))

    def embed(
        self,
        texts: Text | Sequence[Text],
        *,
        model: str | None = None,
        truncate: bool = False,
        normalise: bool = True,
        progress: Callable[[int, int], None] = lambda done, total: None,
        on_resume: Callable[[Resume], None] = lambda resume: None,
    ) -> Embeddings:
        """A vector for each text, of which the peers see neither: (B, C) float32, each of length 1.

        `texts` is a text or several (or token ids, taken as they are). All go through in one session, many to a step. Longer
        texts than the model takes are refused, or cut with `truncate`. Without `normalise` vectors are means over tokens,
        of any length. `progress` is told of texts done and of all. Peers see how many texts there are and how long each is.
        Raises UsageError before anything is sent, and then as `generate` does; a lost peer is mended as there.
        """
        facts, tokenizer = self._model_of(model, PROTOCOL, embeds=True)
        start = self._starter(facts, on_resume, padded=False)
        return embed(facts, tokenizer, texts, start, truncate=truncate, normalise=normalise, progress=progress)

    def complete_all(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        n: int = 1,
        model: str | None = None,
        protocol: str = PROTOCOL,
        pad_prompt: bool = False,
        on_resume: Callable[[Resume], None] = lambda resume: None,
        **settings: Any,
    ) -> list[Choices]:
        """`n` whole answers to each of several prompts, all at once: every step of the model serves all of them, so that
        its rounds are those of one answer. `settings` are those of `generate`.

        Answers to one prompt draw differently, also with a `seed`. Raises as `generate` does; an error ends all of them.
        """
        facts, _ = self._model_of(model, protocol)
        requests = [
            [
                self.answer(prompt, model=model, protocol=protocol, number=number, pad_prompt=pad_prompt, **settings)
                for number in range(n)
            ]
            for prompt in prompts
        ]
        if not requests or n < 1:
            raise UsageError(f"{len(prompts)} prompts and {n} answers to each: there must be at least one of both")
        return complete_all(facts, self._starter(facts, on_resume, pad_prompt), requests)

    def answer(
        self,
        prompt: str | Sequence[int],
        *,
        model: str | None = None,
        protocol: str = PROTOCOL,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        logprobs: bool = False,
        top_logprobs: int = 0,
        ignore_eos: bool = False,
        logit_bias: Mapping[int, float] | None = None,
        response_format: Mapping[str, Any] | None = None,
        json_schema: Mapping[str, Any] | None = None,
        grammar: str | None = None,
        form: Callable[[], Constraint] | None = None,
        number: int = 0,
        pad_prompt: bool = False,
    ) -> Answer:
        """An answer that nobody computes yet, for a `batcher` (with the same `pad_prompt`); checked as `generate` does.
        `number`: of several answers to one prompt, which draw differently. `form`: one that `constraints` or `tools` made."""
        facts, tokenizer = self._model_of(model, protocol)
        form = form or wanted_form(tokenizer, response_format, json_schema, grammar)
        return Answer(
            facts,
            tokenizer,
            prompt,
            max_new_tokens=self._setting("max_new_tokens", max_new_tokens),
            sampling=Sampling(temperature, top_k, top_p, seed, logprobs, top_logprobs),
            stop=(stop,) if isinstance(stop, str) else stop,
            ignore_eos=ignore_eos,
            number=number,
            bias=logit_bias,
            constraint=None if form is None else form(),
            padded=pad_prompt,
        )

    def batcher(
        self,
        *,
        model: str | None = None,
        sequences: int = SEQUENCES,
        idle: float = IDLE,
        pad_prompt: bool = False,
        on_resume: Callable[[Resume], None] = lambda resume: None,
    ) -> Batcher:
        """Answers of one model that come at any time, from any thread, and share one session's rounds: up to `sequences` at
        a time. The session is kept for `idle` seconds after the last answer. Close it before the client."""
        facts, _ = self._model_of(model, PROTOCOL)
        return Batcher(facts, self._starter(facts, on_resume, pad_prompt), sequences=sequences, idle=idle)

    def _model_of(self, model: str | None, protocol: str, embeds: bool = False) -> tuple[ModelFacts, Tokenizer]:
        self._check_open()
        if protocol not in PROTOCOLS:
            raise UsageError(f"{protocol!r} is not a protocol of sessions; choose one of {', '.join(PROTOCOLS)}")
        found = self._catalogue.get(model or self._model, embeds)
        return replace(found.facts, protocol=protocol), found.tokenizer

    def _starter(
        self, facts: ModelFacts, on_resume: Callable[[Resume], None], padded: bool
    ) -> Callable[[Sizes], Runner]:
        """Opens a session of a size."""

        def start(sizes: Sizes) -> Runner:
            return ResumingSession(self._opener(facts, padded), self._policy, sizes, on_resume)

        return start

    def model(self, name: str | None = None) -> Model:
        """What is known of a model, as its peers vouch for it, and its tokenizer; of what is asked nothing is sent."""
        self._check_open()
        return self._catalogue.get(name or self._model)

    def _opener(self, facts: ModelFacts, padded: bool = False) -> Opener:
        return Opener(
            self._context,
            self._directory,
            self._pinned,
            facts,
            self._timeout,
            self._book,
            self._policy.most,
            self._traces,
            self._network,
            padded,
        )

    def template(self, *, model: str | None = None) -> ChatTemplate:
        """The chat template of a model. Raises UsageError for a model without one, ConfigError without the [chat] extra."""
        self._check_open()
        found = self._catalogue.get(model or self._model)
        if found.facts.name not in self._templates:
            if found.chat is None:
                raise UsageError(
                    f"{found.facts.name} is no chat model: it has no chat template; ask it with generate()"
                )
            self._templates[found.facts.name] = ChatTemplate(found.chat, found.tokenizer)
        return self._templates[found.facts.name]

    def chat(
        self,
        *,
        model: str | None = None,
        system: str | None = None,
        context: int | None = None,
        max_new_tokens: int | None = None,
        temperature: float = CHAT_TEMPERATURE,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        options: dict[str, Any] | None = None,
        on_resume: Callable[[Resume], None] = lambda resume: None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        notice: Callable[[str], None] = log.warning,
    ) -> Conversation:
        """A conversation whose tokens the peers keep from turn to turn; `say` something to it. Nothing is sent before.

        `system`: what goes before it. `context`: tokens to keep room for at the peers; None: the model's context, 4096 at
        most. `options`: variables of the template, such as enable_thinking. `on_progress` is told (done, all) of tokens that
        go in by several steps, `notice` when old turns are left out. Raises UsageError for a model without chat template.
        """
        template = self.template(model=model)
        facts, tokenizer = self._model_of(model, PROTOCOL)
        opener = self._opener(facts)
        found = Conversation(
            facts,
            tokenizer,
            template,
            lambda sizes: ResumingSession(opener, self._policy, sizes, on_resume, on_progress),
            max_new_tokens=self._setting("max_new_tokens", max_new_tokens),
            sampling=Sampling(temperature, top_k, top_p, seed),
            system=system,
            context=context,
            stop=(stop,) if isinstance(stop, str) else stop,
            options=options,
            notice=notice,
        )
        self._conversations.append(found)
        return found

    def encode(self, text: str, *, model: str | None = None) -> list[int]:
        """The token ids of a text in a model's vocabulary, as `generate` takes them; found here, nothing is sent."""
        self._check_open()
        return self._catalogue.get(model or self._model).tokenizer.encode(text)

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
            for conversation in self._conversations:
                conversation.close()
            for template in self._templates.values():
                template.close()
            self._directory.close()
            self._context.destroy(linger=1000)
        if self._own is not None:
            self._own.stop()

    def _setting(self, key: str, given: Any) -> Any:
        return self._config.get(f"client.{key}", given, self._named)

    def _check_open(self) -> None:
        if self._context.closed:
            raise UsageError("this client is closed")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _meant(cluster: str | Path | Cluster | None, config: Config) -> Reference | None:
    """The cluster to use; None if there is none and one has to be started."""
    if cluster is None or isinstance(cluster, str | Path):
        return find(cluster, config)
    if not cluster.url:
        raise UsageError("this cluster is not running: call its start(), or use it in a `with`")
    return Reference("this cluster", file=cluster.roster_path)

"""Where a folder may keep its chat template, and what of it reaches the manifest."""

from __future__ import annotations

import hashlib
import json

import pytest
from tacit.chatfile import ChatFile
from tacit.errors import ModelError
from tacit.models.chat import load_chat
from tacit.models.checkpoint import load_checkpoint
from tokenizers import Tokenizer
from tokenizers.models import WordLevel


def write(folder, **config):
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def read(folder) -> ChatFile:
    data = load_chat(folder)
    assert data is not None
    return ChatFile.from_bytes(data)


def test_a_folder_without_template_has_none(tmp_path):
    assert load_chat(tmp_path) is None
    write(tmp_path, bos_token="<s>")
    assert load_chat(tmp_path) is None


def test_the_template_of_the_tokenizers_configuration_with_its_tokens(tmp_path):
    tokens = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "pad_token": None}
    write(tmp_path, chat_template="{{ bos_token }}", model_max_length=3, **tokens)
    assert read(tmp_path) == ChatFile({"default": "{{ bos_token }}"}, {"bos_token": "<s>", "eos_token": "</s>"})


def test_named_templates_and_files_of_their_own(tmp_path):
    write(tmp_path, chat_template=[{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}])
    assert read(tmp_path).templates == {"default": "a", "tool_use": "b"}
    (tmp_path / "chat_template.jinja").write_text("c é")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("d")
    assert read(tmp_path).templates == {"default": "c é", "tool_use": "b", "rag": "d"}


@pytest.mark.parametrize(
    "config",
    [
        {"chat_template": 3},
        {"chat_template": [3]},
        {"chat_template": [{"name": "default"}]},
        {"chat_template": [{"name": "tool_use", "template": "x"}]},
        {"chat_template": ""},
        {"chat_template": "x", "bos_token": 3},
    ],
)
def test_a_damaged_one_is_refused_by_name(tmp_path, config):
    write(tmp_path, **config)
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_chat(tmp_path)


def test_files_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelError, match="not UTF-8"):
        load_chat(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        load_chat(tmp_path)


def test_the_shipped_models_manifest_states_the_templates_hash():
    checkpoint = load_checkpoint("stories")
    assert checkpoint.chat is not None
    assert checkpoint.manifest().chat_hash == hashlib.sha256(checkpoint.chat).hexdigest()


def test_what_the_tokenizer_calls_end_of_text_ends_an_answer_too(llama):
    words = {f"w{number}": number for number in range(17)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(llama.path / "tokenizer.json"))
    for end, expected in (("w9", (2, 3, 9)), ("w3", (2, 3)), ("unknown", (2, 3))):
        write(llama.path, chat_template="x", eos_token=end)
        assert load_checkpoint(llama.path).eos == expected
    write(llama.path, eos_token="w9")  # without a chat template there are no turns
    assert load_checkpoint(llama.path).eos == (2, 3)

"""A tokenizer is loaded as its file says, must fit the model, and knows where answers end."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from sigma_jax.kernel import OuroConfig, check_tokenizer, load_tokenizer, read_config, stop_ids

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = ["walk twice 1234", "<|im_start|>user\njump<|im_end|>", "né 你好\n\n  x"]


def config(vocab_size, eos_token_id=0):
    return OuroConfig(vocab_size, 8, 8, 1, 1, 1, 8, eos_token_id=eos_token_id)


def write_tokenizer(directory, specials, settings=None):
    """Byte-level BPE, digit by digit, as Ouro's; the class that is named would not split them."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["walk twice and jump 1234 1234"] * 9, trainer)
    tokenizer.save(str(directory / "tokenizer.json"))
    told = {"tokenizer_class": "GPT2Tokenizer", "eos_token": specials[0], "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(told | (settings or {})))
    return tokenizer


def test_it_is_loaded_as_the_file_says_beside_a_models_config(tmp_path):
    written = write_tokenizer(tmp_path, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    # What a published model has beside it: the name of a class that would have to be downloaded.
    told = config(300).to_dict() | {"auto_map": {"AutoConfig": "elsewhere.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(told))
    loaded = load_tokenizer(tmp_path)
    for text in TEXTS:
        ids = loaded(text)["input_ids"]
        assert ids == written.encode(text).ids
        assert loaded.decode(ids) == text
    assert loaded.tokenize("1234") == ["1", "2", "3", "4"]
    chat = [{"role": "user", "content": "jump"}]
    said = loaded.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert said == "<|im_start|>user\njump<|im_end|>\n<|im_start|>assistant\n"
    check_tokenizer(loaded, read_config(tmp_path))


def test_answers_end_at_every_token_that_ends_one(tmp_path):
    """A published config says 0, and its chat turns end with 2."""
    write_tokenizer(tmp_path, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    loaded = load_tokenizer(tmp_path)
    assert stop_ids(loaded, config(300)) == (0, 2)
    assert stop_ids(loaded, config(300, eos_token_id=7)) == (0, 2, 7)
    other = tmp_path / "other"
    other.mkdir()
    write_tokenizer(other, ["</s>"])
    assert stop_ids(load_tokenizer(other), config(300)) == (0,)


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path):
    written = write_tokenizer(tmp_path, ["<|endoftext|>"])
    loaded, size = load_tokenizer(tmp_path), written.get_vocab_size()
    check_tokenizer(loaded, config(size))
    check_tokenizer(loaded, config(size + 50))
    with pytest.raises(ValueError, match=f"ids up to {size - 1}; the model's vocabulary has 200"):
        check_tokenizer(loaded, config(200))
    loaded.add_tokens(["<new>"])
    with pytest.raises(ValueError, match=f"ids up to {size}; "):
        check_tokenizer(loaded, config(size))


def test_what_is_no_tokenizer_is_refused(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer\.json"):
        load_tokenizer(tmp_path)
    for text, words in (("{", "is not JSON"), ("[]", "JSON object"), ("{}", "no tokenizer that")):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(ValueError, match=words):
            load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        load_tokenizer(Path("nowhere"))
    asked = []

    def fetch(name, *, revision, allow_patterns):
        asked.append((name, revision))
        raise OSError("no route to host\nat all")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(FileNotFoundError, match="did not give it: no route to host"):
        load_tokenizer("someone/ouro", revision="v2")
    assert asked == [("someone/ouro", "v2")]

"""Tiny language models in the folder format of transformers: random, or taught one reply."""

import json
from pathlib import Path

import torch


def save_tiny_llm(folder: Path, seed: int = 0, template: str | None = None) -> Path:
    """A random Llama over bytes."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    _save_tokenizer(folder, {piece: i for i, piece in enumerate(["<pad>", "</s>", *letters])}, template)
    torch.manual_seed(seed)
    LlamaForCausalLM(_config(LlamaConfig, len(letters) + 2)).save_pretrained(str(folder))
    return folder


def save_taught_llm(folder: Path, reply: str) -> Path:
    """A Llama whose vocabulary is the lines of one reply, fitted until it says them whatever it is asked."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    lines = reply.splitlines(keepends=True)
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", "</s>", "<a>", *lines])}
    assert len(vocabulary) == len(lines) + 3, "the lines of the reply must differ"
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Split("<a>", "isolated"), decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = "{{ messages[0].content }}<a>"
    fast.save_pretrained(str(folder))
    torch.manual_seed(0)
    model = LlamaForCausalLM(_config(LlamaConfig, len(vocabulary)))
    ids = torch.tensor([[0, 2, *range(3, len(vocabulary)), 1]])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02, "the reply was not learnt"
    model.eval().save_pretrained(str(folder))
    return folder


def _config(kind, size):
    return kind(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=None,
    )


def _save_tokenizer(folder: Path, vocabulary: dict[str, int], template: str | None) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    fast.chat_template = template
    fast.save_pretrained(str(folder))
    assert json.loads((folder / "tokenizer_config.json").read_text())

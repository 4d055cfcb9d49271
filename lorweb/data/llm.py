"""A text language model from a local transformers folder: prompt and seed in, text out, the same every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorweb.hub import first_line
from lorweb.kontext.files import base_revision, check_safetensors


@dataclass(frozen=True)
class Sampled:
    """How text is drawn: up to `max_new_tokens` tokens at `temperature` (above 0), from the whole vocabulary."""

    max_new_tokens: int
    temperature: float


def check_model_folder(folder: Path) -> str:
    """Look at a model folder before it is loaded, and return its revision.

    Raises:
        FileNotFoundError: no folder, no config.json, or no safetensors weights in it.
        ValueError: a weights file is damaged.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no config.json in {folder}; give the folder of a transformers language model")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise FileNotFoundError(
            f"{folder} has no .safetensors file (other formats are not read); fetch the model again"
        )
    for file in weights:
        check_safetensors(file)
    return base_revision(folder)


class LanguageModel:
    """AutoModelForCausalLM with its tokenizer; prompts go through the chat template where the tokenizer has one."""

    def __init__(self, folder: Path, dtype: str, device: str) -> None:
        """Raises FileNotFoundError or ValueError where the folder does not hold a causal language model."""
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer

        check_model_folder(folder)
        self.torch: Any = torch
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            self.model: Any = AutoModelForCausalLM.from_pretrained(
                str(folder), dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise ValueError(
                f"{folder} does not load as a causal language model: {first_line(error)}; fetch or copy it again"
            ) from error
        self.model.eval().to(device)

    def __call__(self, prompt: str, seed: int, how: Sampled) -> str:
        """The reply to one prompt, special tokens left out.

        Raises:
            ValueError: the prompt and the reply do not fit into the model's context.
        """
        encoded = self._encode(prompt).to(self.model.device)
        room = getattr(self.model.config, "max_position_embeddings", None)
        asked = encoded["input_ids"].shape[1] + how.max_new_tokens
        if room is not None and asked > room:
            raise ValueError(
                f"the prompt and max_new_tokens need {asked} tokens, but the model takes {room}; lower max_new_tokens "
                "or per_call, or use another model"
            )
        with self._seeded(seed), self.torch.no_grad():
            tokens = self.model.generate(
                **encoded,
                do_sample=True,
                temperature=how.temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=how.max_new_tokens,
                pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id or 0,
            )
        fresh = tokens[0, encoded["input_ids"].shape[1] :]
        text: str = self.tokenizer.decode(fresh, skip_special_tokens=True)
        return text

    def _encode(self, prompt: str) -> Any:
        if self.tokenizer.chat_template is None:
            return self.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        chat = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )

    @contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        """Sampling draws from the global generators: set them for the block, and put them back."""
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with self.torch.random.fork_rng(devices=devices):
            self.torch.manual_seed(seed)
            yield

"""A judge from a local folder: any vision language model that transformers loads with its processor."""

from typing import Any

from lorweb.data.scorers.entries import AskedModel
from lorweb.data.scorers.folders import loaded, model_at, pretrained
from lorweb.data.scorers.judge_reply import Question


class LocalJudge:
    """AutoModelForImageTextToText with AutoProcessor; questions go through the processor's chat template."""

    def __init__(self, cfg: AskedModel, device: str) -> None:
        """Raises FileNotFoundError or ValueError where the folder holds no such model, or no chat template."""
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        folder = model_at("judge", cfg.model)
        self._torch: Any = torch
        self._cfg = cfg

        def load() -> tuple[Any, Any]:
            model = pretrained(AutoModelForImageTextToText, folder, cfg.dtype)
            return model, AutoProcessor.from_pretrained(str(folder), local_files_only=True)

        model, self._processor = loaded("judge", folder, "a vision language model", load)
        self._model = model.to(device)
        if getattr(self._processor, "chat_template", None) is None:
            raise ValueError(f"scorer 'judge': {folder} has no chat template; use a model that was trained to be asked")

    def __call__(self, question: Question, seed: int) -> str:
        """The reply, special tokens left out; the same for the same seed."""
        encoded = self._encode(question)
        devices = [self._model.device] if self._model.device.type == "cuda" else []
        with self._torch.random.fork_rng(devices=devices), self._torch.no_grad():
            self._torch.manual_seed(seed)
            tokens = self._model.generate(
                **encoded,
                do_sample=True,
                temperature=self._cfg.temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=self._cfg.max_new_tokens,
            )
        fresh = tokens[0, encoded["input_ids"].shape[1] :]
        text: str = self._processor.decode(fresh, skip_special_tokens=True)
        return text

    def _encode(self, question: Question) -> Any:
        images = [{"type": "image", "image": image} for image in question.images]
        chat = [{"role": "user", "content": [*images, {"type": "text", "text": question.text}]}]
        encoded = self._processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        return encoded.to(self._model.device, dtype=self._model.dtype)  # whole numbers stay what they are

"""Ray Train's torch backend with one more thing to do in every worker's main thread: take SIGTERM."""

from dataclasses import dataclass
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

from pipelines._train_stop import raise_flag_on_sigterm


class _HeedingBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        super().on_start(worker_group, backend_config)
        worker_group.execute(raise_flag_on_sigterm)


@dataclass
class HeedingTorchConfig(TorchConfig):
    """TorchConfig whose workers do not die of SIGTERM: see pipelines/_train_stop.py."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _HeedingBackend

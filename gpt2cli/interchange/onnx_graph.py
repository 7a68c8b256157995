"""GPT-2 as an ONNX graph with its KV cache as inputs and outputs, for onnxruntime and its kin.

Inputs: input_ids (batch, T) int64; past_key_values.N.key and .value (batch, heads, P, head size), P = 0 at the start.
Outputs: logits (batch, T, ids); present.N.key and .value, P + T long. New ids attend to the past and to themselves.

The graph is written operator by operator, not traced from our modules by torch.onnx: traced graphs carry source paths
of the machine, take tens of seconds, and fix what our kernels choose by the number of rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gpt2cli.errors import Gpt2Error
from gpt2cli.sizes import ModelShape

MODEL, WEIGHTS = "model.onnx", "model.onnx.data"
_OPSET, _IR_VERSION = 20, 9
"""The first opset with the tanh GELU, of 2023; onnxruntime 1.17 reads it."""
_MOST_INSIDE = 1 << 30
"""Bytes of weights that stay in model.onnx; a protocol buffer ends at 2 GiB."""


def write_onnx(directory: Path, tensors: dict[str, Tensor], shape: ModelShape) -> None:
    """Write model.onnx, and model.onnx.data when the weights pass 1 GiB; `tensors` are fp32 by our names.

    Raises Gpt2Error when the onnx package is not installed, OSError.
    """
    try:
        import onnx
    except ImportError:
        raise Gpt2Error("ONNX needs the onnx package, which is not installed: pip install 'gpt2cli[export]'") from None
    model = _Graph(onnx, shape).model({name: tensor.contiguous().numpy() for name, tensor in tensors.items()})
    outside = 4 * shape.n_params > _MOST_INSIDE
    onnx.save_model(model, directory / MODEL, save_as_external_data=outside, all_tensors_to_one_file=True,
                    location=WEIGHTS, size_threshold=1024)


class _Graph:
    """The nodes of the network in the order of gpt2cli.model.gpt2; every method returns the name of its output."""

    def __init__(self, onnx: Any, shape: ModelShape) -> None:
        self._onnx, self._shape = onnx, shape
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}

    def model(self, weights: dict[str, np.ndarray]) -> Any:
        """Return the whole ModelProto."""
        shape, helper = self._shape, self._onnx.helper
        x = self._embed()
        presents = []
        for layer in range(shape.n_layer):
            attended, present = self._attend(self._norm(x, f"h.{layer}.ln_1"), layer)
            x = self._op("Add", [x, attended])
            inner = self._op("Gelu", [self._project(self._norm(x, f"h.{layer}.ln_2"), f"h.{layer}.mlp.c_fc")],
                             approximate="tanh")
            x = self._op("Add", [x, self._project(inner, f"h.{layer}.mlp.c_proj")])
            presents += present
        head = self._op("Transpose", ["wte.weight"], perm=[1, 0])
        self._op("MatMul", [self._norm(x, "ln_f"), head], output="logits")
        tensors = {**weights, **self._constants}
        initializers = [self._onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
        graph = helper.make_graph(self._nodes, "gpt2", self._inputs(), self._outputs(presents), initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION,
                                 producer_name="gpt2cli")

    def _embed(self) -> str:
        """Token and position embeddings; positions go on where the past ends."""
        past = self._length("past_key_values.0.key", 2)
        self._length("input_ids", 1, output="new_length")
        self._op("Add", [past, "new_length"], output="total_length")
        positions = self._op("Range", [past, "total_length", self._constant("one", 1)], output="positions")
        keys = self._op("Range", [self._constant("zero", 0), "total_length", "one"])
        rows = self._op("Unsqueeze", [positions, self._constant("axis_1", [1])])
        seen = self._op("LessOrEqual", [keys, rows])
        self._op("Where", [seen, self._constant("open", np.float32(0)),
                           self._constant("closed", np.finfo(np.float32).min)], output="causal_mask")
        tokens = self._op("Gather", ["wte.weight", "input_ids"])
        return self._op("Add", [tokens, self._op("Gather", ["wpe.weight", positions])])

    def _attend(self, x: str, layer: int) -> tuple[str, list[str]]:
        """Causal attention over past and new positions; also the names of the grown keys and values."""
        shape = self._shape
        d = shape.n_embd // shape.n_head
        split = [f"h.{layer}.q", f"h.{layer}.k", f"h.{layer}.v"]
        self._nodes.append(self._onnx.helper.make_node(
            "Split", [self._project(x, f"h.{layer}.attn.c_attn")], split, axis=-1, num_outputs=3))
        heads = self._constant("by_heads", [0, 0, shape.n_head, d])
        q, k, v = (self._op("Transpose", [self._op("Reshape", [part, heads])], perm=[0, 2, 1, 3]) for part in split)
        presents = [f"present.{layer}.key", f"present.{layer}.value"]
        for new, kind, present in ((k, "key", presents[0]), (v, "value", presents[1])):
            self._op("Concat", [f"past_key_values.{layer}.{kind}", new], output=present, axis=2)
        turned = self._op("Transpose", [presents[0]], perm=[0, 1, 3, 2])
        scaled = self._op("Mul", [q, self._constant("scale", np.float32(d**-0.5))])
        scores = self._op("Add", [self._op("MatMul", [scaled, turned]), "causal_mask"])
        mixed = self._op("MatMul", [self._op("Softmax", [scores], axis=-1), presents[1]])
        flat = self._op("Reshape", [self._op("Transpose", [mixed], perm=[0, 2, 1, 3]),
                                    self._constant("flat", [0, 0, shape.n_embd])])
        return self._project(flat, f"h.{layer}.attn.c_proj"), presents

    def _norm(self, x: str, name: str) -> str:
        return self._op("LayerNormalization", [x, f"{name}.weight", f"{name}.bias"], axis=-1, epsilon=1e-5)

    def _project(self, x: str, name: str) -> str:
        return self._op("Add", [self._op("MatMul", [x, f"{name}.weight"]), f"{name}.bias"])

    def _length(self, name: str, axis: int, output: str | None = None) -> str:
        sizes = self._op("Shape", [name], start=axis, end=axis + 1)
        return self._op("Squeeze", [sizes, self._constant("axis_0", [0])], output=output)

    def _constant(self, name: str, value: Any) -> str:
        self._constants[name] = np.asarray(value, np.float32 if isinstance(value, np.float32) else np.int64)
        return name

    def _op(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        name = output or f"{kind}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _inputs(self) -> list[Any]:
        shape, kinds, info = self._shape, self._onnx.TensorProto, self._onnx.helper.make_tensor_value_info
        past = ["batch", shape.n_head, "past_length", shape.n_embd // shape.n_head]
        return [info("input_ids", kinds.INT64, ["batch", "length"])] + [
            info(f"past_key_values.{layer}.{kind}", kinds.FLOAT, past)
            for layer in range(shape.n_layer) for kind in ("key", "value")]

    def _outputs(self, presents: list[str]) -> list[Any]:
        shape, kinds, info = self._shape, self._onnx.TensorProto, self._onnx.helper.make_tensor_value_info
        grown = ["batch", shape.n_head, "total_length", shape.n_embd // shape.n_head]
        return [info("logits", kinds.FLOAT, ["batch", "length", shape.n_vocab])] + [
            info(name, kinds.FLOAT, grown) for name in presents]

"""MiniLM's arithmetic as an ONNX graph: one text's token numbers in, one vector of length 1 out. Pure.

Six layers of BERT, the mean over all tokens, and a division by its length, as sentence-transformers does it. One text
at a time, so that there is neither padding nor a mask. The graph holds operations; of each weight it says where in
the weights' file it lies, and whoever runs it maps that file into memory (`encoder`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto, helper

__all__ = ["IDS", "VECTOR", "WeightPlace", "build_encoder_graph"]

IDS = "ids"
"""The input: int64, one a token, at most as many as the weights have positions."""
VECTOR = "vector"
"""The output: float32."""

_OPSET = 20  # the first with Gelu
_IR_VERSION = 9  # of the ONNX release that brought it
_HEADS = 12
_EPSILON = 1e-12  # of the layers' normalisation, as the model was trained with


@dataclass(frozen=True, slots=True)
class WeightPlace:
    """Where a weight lies in its file, as float32 of the machine's byte order."""

    shape: tuple[int, ...]
    offset: int
    """Bytes from the file's beginning."""
    length: int
    """Bytes."""


class _Graph:
    """Grows a graph; results are numbered."""

    def __init__(self, places: Mapping[str, WeightPlace], file_name: str) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}
        self._places = places
        self._file_name = file_name

    def add(self, operation: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        name = output or f"result_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        return name

    def weight(self, name: str) -> str:
        """Return the name under which the graph knows a weight of the file. Raises KeyError for one it lacks."""
        place = self._places[name]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=place.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", self._file_name),
            ("offset", str(place.offset)),
            ("length", str(place.length)),
        ):
            tensor.external_data.add(key=key, value=value)
        self.tensors[name] = tensor
        return name

    def integers(self, *values: int) -> str:
        name = "integers_" + "_".join(map(str, values))
        self.tensors[name] = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return name

    def dense(self, name: str, rows: str) -> str:
        """A linear layer; the file has one row of weights an output."""
        return self.add("Gemm", rows, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), transB=1)

    def normalise(self, name: str, rows: str) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("LayerNormalization", rows, scale, bias, axis=-1, epsilon=_EPSILON)


def build_encoder_graph(places: Mapping[str, WeightPlace], file_name: str) -> ModelProto:
    """Return the model. `file_name`: the weights' file, in a folder that the session is told.

    Raises KeyError naming a weight that the file lacks.
    """
    graph = _Graph(places, file_name)
    width = places["embeddings.word_embeddings.weight"].shape[1]
    layers = len({name.split(".")[2] for name in places if name.startswith("encoder.layer.")})
    rows = _embed(graph)
    for number in range(layers):
        rows = _layer(graph, rows, f"encoder.layer.{number}", width)
    mean = graph.add("ReduceMean", rows, graph.integers(0), keepdims=0)
    graph.add("LpNormalization", mean, output=VECTOR, axis=0, p=2)
    ids = helper.make_tensor_value_info(IDS, TensorProto.INT64, ["tokens"])
    vector = helper.make_tensor_value_info(VECTOR, TensorProto.FLOAT, [width])
    made = helper.make_graph(graph.nodes, "encoder", [ids], [vector], list(graph.tensors.values()))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def _embed(graph: _Graph) -> str:
    """A token's own row, that of its position, and that of the first of two kinds of text."""
    words = graph.add("Gather", graph.weight("embeddings.word_embeddings.weight"), IDS)
    places = graph.weight("embeddings.position_embeddings.weight")
    first = graph.add("Slice", places, graph.integers(0), graph.add("Shape", IDS), graph.integers(0))
    kind = graph.add("Gather", graph.weight("embeddings.token_type_embeddings.weight"), graph.integers(0))
    rows = graph.add("Add", graph.add("Add", words, first), kind)
    return graph.normalise("embeddings.LayerNorm", rows)


def _layer(graph: _Graph, rows: str, name: str, width: int) -> str:
    heads = graph.integers(-1, _HEADS, width // _HEADS)
    query, key, value = (
        graph.add("Reshape", graph.dense(f"{name}.attention.self.{part}", rows), heads)
        for part in ("query", "key", "value")
    )
    # Heads first; keys turned, so that the product is one number a pair of tokens.
    query, key, value = (
        graph.add("Transpose", part, perm=perm)
        for part, perm in ((query, [1, 0, 2]), (key, [1, 2, 0]), (value, [1, 0, 2]))
    )
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [(width / _HEADS) ** -0.5])
    graph.tensors["scale"] = scale
    likeness = graph.add("Mul", graph.add("MatMul", query, key), "scale")
    read = graph.add("MatMul", graph.add("Softmax", likeness, axis=-1), value)
    read = graph.add("Reshape", graph.add("Transpose", read, perm=[1, 0, 2]), graph.integers(-1, width))
    rows = graph.add("Add", rows, graph.dense(f"{name}.attention.output.dense", read))
    rows = graph.normalise(f"{name}.attention.output.LayerNorm", rows)
    wide = graph.add("Gelu", graph.dense(f"{name}.intermediate.dense", rows))
    rows = graph.add("Add", rows, graph.dense(f"{name}.output.dense", wide))
    return graph.normalise(f"{name}.output.LayerNorm", rows)

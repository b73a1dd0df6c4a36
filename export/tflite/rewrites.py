"""A .tflite file as the converter writes it -> operations that every runtime computes correctly."""

import pathlib

from ai_edge_litert import schema_py_generated as schema

from export.tflite.flatbuffer import (
    drop_unused_tensors,
    make_reshape,
    operator_code,
    pack,
    read_model,
)

Op = schema.BuiltinOperator
# Operations that compute each row of a matrix by itself, or each number.
BY_ROW = {
    *(Op.FULLY_CONNECTED, Op.SOFTMAX, Op.ADD, Op.SUB, Op.MUL, Op.DIV),
    *(Op.GELU, Op.LOGISTIC, Op.RELU, Op.TANH),
}


def rewrite(path: str | pathlib.Path) -> None:
    """Rewrites a float32 file in place."""
    model = read_model(path)
    for number, graph in enumerate(model.subgraphs):
        RowsRewrite(model, graph).run()
        drop_unused_tensors(model, number)
    pathlib.Path(path).write_bytes(pack(model))


class RowsRewrite:
    """Gives matrices, (rows, width), and vectors three axes, the first ones of length 1.

    The converter projects patches, and adds their positions, in matrices. LiteRT's GPU engine takes
    the rows of a matrix for its batch, and then computes wrong sums without an error. In int8, it
    also adds a vector wrongly.

    Args:
        model: the tables of the file.
        graph: one of its graphs.
    """

    def __init__(self, model: schema.ModelT, graph: schema.SubGraphT) -> None:
        self.model = model
        self.graph = graph
        self.lifted: dict[int, int] = {}  # index of a tensor -> index of the one in its place

    def run(self) -> None:
        """Rewrites the graph."""
        by_row = [op for op in self.graph.operators if self._code(op) in BY_ROW]
        for operator in by_row:
            operator.inputs = self._lift(operator.inputs, self._code(operator))
            operator.outputs = self._lift(operator.outputs)
            if self._code(operator) == Op.FULLY_CONNECTED:
                operator.builtinOptions.keepNumDims = True
        for operator in self.graph.operators:
            if self._code(operator) == Op.RESHAPE:
                first, *rest = operator.inputs
                operator.inputs = [self.lifted.get(first, first), *rest]
        self._connect()

    def _code(self, operator: schema.OperatorT) -> int:
        return operator_code(self.model, operator)

    def _lift(self, indices: list[int], code: int | None = None) -> list[int]:
        """The tensors in the place of those with these indices.

        A dense layer's weights stay a matrix.
        """
        kept = indices[1:] if code == Op.FULLY_CONNECTED else []
        return [index if index in kept else self._lift_one(index) for index in indices]

    def _lift_one(self, index: int) -> int:
        tensor = self.graph.tensors[index]
        rank = 0 if tensor.shape is None else len(tensor.shape)
        constant = self.model.buffers[tensor.buffer].data is not None
        if rank not in ((2,) if constant else (1, 2)):
            return index
        if index not in self.lifted:
            shape, name = [*(3 - rank) * [1], *tensor.shape], tensor.name + b"/rows"
            self.lifted[index] = len(self.graph.tensors)
            self.graph.tensors.append(
                schema.TensorT(shape, tensor.type, tensor.buffer, name, hasRank=True)
            )
        return self.lifted[index]

    def _connect(self) -> None:
        """Adds reshapes between matrices and the tensors in their place, where both are used."""
        used = {index for op in self.graph.operators for index in op.inputs} | {*self.graph.outputs}
        matrices = {index: matrix for matrix, index in self.lifted.items()}
        operators: list[schema.OperatorT] = []
        for operator in self.graph.operators:
            (output, *_) = operator.outputs
            if output in self.lifted:  # another operation than those by row
                is_reshape = self._code(operator) == Op.RESHAPE
                source = operator.inputs[0] if is_reshape else output
                if output in used or not is_reshape:
                    operators.append(operator)
                operators.append(make_reshape(self.model, self.graph, source, self.lifted[output]))
                continue
            operators.append(operator)
            if matrices.get(output) in used:
                operators.append(make_reshape(self.model, self.graph, output, matrices[output]))
        self.graph.operators = operators

"""The tables of a .tflite file -> a signature for each of its answers."""

import copy
from collections.abc import Mapping

from ai_edge_litert import schema_py_generated as schema

from export.tflite.flatbuffer import drop_unused_tensors


def split_signatures(model: schema.ModelT, main: str, others: Mapping[str, str]) -> None:
    """Names the signature of a file, and moves some of its outputs to signatures of their own.

    Each signature has a graph, and the graphs share the weights: an app that asks for one answer
    does not compute the other.

    Args:
        model: the tables, with one graph; they are changed.
        main: the name of the first signature.
        others: {output: name of its signature}.
    """
    (signature,), (graph,) = model.signatureDefs, model.subgraphs
    signature.signatureKey = main
    for output in [output for output in signature.outputs if output.name.decode() in others]:
        name = others[output.name.decode()]
        twin = copy.copy(graph)
        twin.tensors = list(graph.tensors)
        twin.operators = [copy.copy(operator) for operator in graph.operators]
        twin.outputs, twin.name = [output.tensorIndex], name
        signature.outputs.remove(output)
        graph.outputs = [index for index in graph.outputs if index != output.tensorIndex]
        inputs = [copy.copy(entry) for entry in signature.inputs]
        model.signatureDefs.append(
            schema.SignatureDefT(inputs, [output], name, subgraphIndex=len(model.subgraphs))
        )
        model.subgraphs.append(twin)
    for number, each in enumerate(model.subgraphs):
        _drop_unused_operators(each)
        drop_unused_tensors(model, number)


def _drop_unused_operators(graph: schema.SubGraphT) -> None:
    """Removes the operations that no output depends on."""
    needed = {int(index) for index in graph.outputs}
    operators = []
    for operator in reversed(graph.operators):
        if needed.intersection(map(int, operator.outputs)):
            needed.update(map(int, operator.inputs))
            operators.append(operator)
    graph.operators = operators[::-1]

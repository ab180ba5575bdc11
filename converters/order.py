"""The order of a file's subgraphs, which decides what tflite-runtime hands to XNNPACK.

tflite-runtime offers its subgraphs to XNNPACK one after the other and stops at the first whose tensors have no fixed
size: `infer`, which takes any batch. The converter sorts signatures by name, so `train` came too late and ran on plain
kernels, at up to 1.4 times the cost. ai-edge-litert takes them in any order.
"""

from __future__ import annotations

from typing import Any

from tensorflow.lite.python import schema_py_generated as schema


def fixed_sizes_first(model: Any) -> None:
    """Sort a file's object tree: `train`, other subgraphs of fixed sizes, the rest.

    The first one is the interpreter's own, which it runs without a signature: nothing is then sized and looked up by
    name at each step, which takes as long as a small model's step does.
    """
    names = {signature.subgraphIndex: signature.signatureKey for signature in model.signatureDefs or ()}
    ranks = [
        (names.get(index) != b"train", _takes_any_size(graph), index not in names, len(graph.operators or ()), index)
        for index, graph in enumerate(model.subgraphs)
    ]
    places = {old: new for new, (*_, old) in enumerate(sorted(ranks))}
    for signature in model.signatureDefs or ():
        signature.subgraphIndex = places[signature.subgraphIndex]
    for graph in model.subgraphs:
        for op in graph.operators or ():
            if isinstance(op.builtinOptions, schema.CallOnceOptionsT):
                op.builtinOptions.initSubgraphIndex = places[op.builtinOptions.initSubgraphIndex]
    model.subgraphs = [model.subgraphs[rank[-1]] for rank in sorted(ranks)]


def _takes_any_size(graph: Any) -> bool:
    signatures = (graph.tensors[index].shapeSignature for index in graph.inputs)
    return any(signature is not None and -1 in list(signature) for signature in signatures)

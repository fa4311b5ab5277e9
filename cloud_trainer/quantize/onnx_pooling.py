"""Means over a map as the pooling operator that ONNX Runtime computes in int8; as ReduceMean they stay in float."""

from __future__ import annotations

from typing import Any

MAP = (2, 3)


def pool_means(graph: Any) -> int:
    """ReduceMean over height and width becomes GlobalAveragePool, in place; how many did."""
    from onnx import helper, numpy_helper

    constants = {one.name: one for one in graph.initializer}
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in (*graph.value_info, *graph.input)}
    nodes: list[Any] = []
    done = 0
    for node in graph.node:
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4:
            nodes.append(node)
            continue
        words = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        axes = words.get("axes", ())
        if len(node.input) > 1 and node.input[1] in constants:
            axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
        if tuple(sorted(int(axis) % 4 for axis in axes)) != MAP:
            nodes.append(node)
            continue
        done += 1
        keep = bool(words.get("keepdims", 1))
        pooled = node.output[0] if keep else f"{node.output[0]}_map"
        nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=f"{node.name}_pool"))
        if not keep:
            nodes.append(helper.make_node("Flatten", [pooled], [node.output[0]], name=f"{node.name}_flat"))
    if done:
        del graph.node[:]
        graph.node.extend(nodes)
    return done

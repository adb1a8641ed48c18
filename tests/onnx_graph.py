"""Writes small ONNX graphs node by node."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Collects nodes; each call appends one and returns the name of its output."""

    def __init__(self, shape=(1, 3, 32, 32), opset=17):
        self.nodes, self.weights, self.opset = [], [], opset
        self.input = helper.make_tensor_value_info("data", TensorProto.FLOAT, shape)

    def weight(self, *shape, kind: type[np.generic] = np.float32):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.zeros(shape, kind), name))
        return name

    def const(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def __call__(self, op, *inputs, outputs=None, name=None, **attributes):
        outputs = outputs or [f"t{len(self.nodes)}"]
        name = f"{op}{len(self.nodes)}" if name is None else name
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name, **attributes))
        return outputs[0] if len(outputs) == 1 else outputs

    def conv(self, x, cin, cout, kernel=3, stride=1, group=1, **attributes):
        pad = (kernel - 1) // 2
        weight = self.weight(cout, cin // group, kernel, kernel)
        options = {"pads": [pad] * 4} if "auto_pad" not in attributes else {}
        return self(
            *("Conv", x, weight, self.weight(cout)),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            group=group,
            **options | attributes,
        )

    def norm(self, x, channels):
        return self("BatchNormalization", x, *(self.weight(channels) for _ in range(4)))

    def model(self, *outputs):
        result = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
        inputs = [self.input]
        if self.opset <= 9:  # files of IR version 3 list their weights among the inputs
            inputs += [
                helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in self.weights
            ]
        graph = helper.make_graph(self.nodes, "g", inputs, result, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 3 if self.opset <= 9 else 8
        return model

    def save(self, tmp_path, *outputs):
        path = tmp_path / "net.onnx"
        onnx.save(self.model(*outputs), path)
        return path

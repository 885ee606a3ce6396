"""Turns a model in torch into an ONNX graph, and records what torch answers."""

"""Bundle to TensorRT engine: the graph made ready, built, and proven where it runs."""

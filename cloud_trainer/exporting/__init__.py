"""From a trained network to files that devices run: ONNX here, TFLite in an environment of its own (docs/adr/0001)."""

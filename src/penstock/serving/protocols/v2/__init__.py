"""The Open Inference Protocol (V2): messages, tensor data and its REST form."""

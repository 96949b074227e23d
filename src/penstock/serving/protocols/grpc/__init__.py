"""The Open Inference Protocol (V2) over gRPC, with health and reflection."""

"""Triton's clients against a server whose settings do not let clients load and unload models."""

import triton_grpc
import triton_http
from checks import main


def check_http(facts):
    with triton_http.connect(facts) as client:
        assert "server.model_control" in triton_http.failure("403", client.load_model, "fare")
        assert "server.model_control" in triton_http.failure("403", client.unload_model, "fare")
        assert client.is_model_ready("fare")


def check_grpc(facts):
    with triton_grpc.connect(facts) as client:
        assert "server.model_control" in triton_grpc.failure("PERMISSION_DENIED", client.load_model, "fare")
        assert "server.model_control" in triton_grpc.failure("PERMISSION_DENIED", client.unload_model, "fare")
        assert client.is_model_ready("fare")


if __name__ == "__main__":
    main(__name__)

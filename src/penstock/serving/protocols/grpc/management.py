"""Everything that the inference service answers besides inferences: health, metadata and the repository."""

from typing import Any

from penstock.core.errors import NotFound, Unsupported, shown
from penstock.core.signature import ANY, TensorSpec
from penstock.serving.deployment import Deployment
from penstock.serving.instance import Instance, ModelState
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.grpc.codec import plain_parameters
from penstock.serving.protocols.grpc.health import Health
from penstock.serving.protocols.grpc.libraries import Messages
from penstock.serving.protocols.v2.messages import EXTENSIONS
from penstock.serving.protocols.v2.parameters import version_of
from penstock.serving.statistics import CacheCounts, DeploymentStatistics, Durations

__all__ = ["Management"]


class Management:
    """Methods take a request message and give the answer's. They raise what `penstock.core.errors` has."""

    def __init__(
        self,
        plane: DataPlane,
        instance: Instance,
        health: Health,
        messages: Messages,
        *,
        name: str,
        version: str,
    ) -> None:
        self._plane = plane
        self._instance = instance
        self._health = health
        self._messages = messages
        self._metadata = messages.ServerMetadataResponse(name=name, version=version, extensions=EXTENSIONS)

    async def server_live(self, _request: Any) -> Any:
        return self._messages.ServerLiveResponse(live=True)

    async def server_ready(self, _request: Any) -> Any:
        return self._messages.ServerReadyResponse(ready=self._health.ready)

    async def model_ready(self, request: Any) -> Any:
        """A model that is not served is not ready, as Triton's clients expect, and no error."""
        try:
            deployment = self._find(request)
        except NotFound:
            return self._messages.ModelReadyResponse(ready=False)
        return self._messages.ModelReadyResponse(ready=self._plane.accepting and deployment.fault is None)

    async def server_metadata(self, _request: Any) -> Any:
        return self._metadata

    async def model_metadata(self, request: Any) -> Any:
        deployment = self._find(request)
        response = self._messages.ModelMetadataResponse
        inputs, outputs = (
            [
                response.TensorMetadata(name=spec.name, datatype=spec.datatype.wire, shape=spec.shape)
                for spec in specs
            ]
            for specs in (deployment.signature.inputs, deployment.signature.outputs)
        )
        return response(
            name=deployment.model,
            versions=self._plane.versions(deployment.model),
            platform=deployment.platform,
            inputs=inputs,
            outputs=outputs,
        )

    async def model_config(self, request: Any) -> Any:
        deployment = self._find(request)
        messages = self._messages
        batched = _batched(deployment)
        config = messages.ModelConfig(
            name=deployment.model,
            platform=deployment.platform,
            backend=deployment.platform,
            max_batch_size=deployment.batch_rows_max if batched else 0,
            model_transaction_policy=messages.ModelTransactionPolicy(decoupled=False),
        )
        for kind, side, specs in (
            (messages.ModelInput, config.input, deployment.signature.inputs),
            (messages.ModelOutput, config.output, deployment.signature.outputs),
        ):
            side.extend(self._configured(kind, spec, batched=batched) for spec in specs)
        if batched:
            config.dynamic_batching.SetInParent()
        return messages.ModelConfigResponse(config=config)

    async def model_statistics(self, request: Any) -> Any:
        if request.name:
            self._find(request)
        found = [
            self._statistics(each)
            for each in await self._instance.statistics()
            if request.name in ("", each.model) and request.version in ("", each.version)
        ]
        return self._messages.ModelStatisticsResponse(model_stats=found)

    async def repository_index(self, request: Any) -> Any:
        _no_repository(request)
        response = self._messages.RepositoryIndexResponse
        models = [
            response.ModelIndex(
                name=entry.name, version=entry.version, state=entry.state.value, reason=entry.reason
            )
            for entry in await self._instance.index()
            if entry.state is ModelState.READY or not request.ready
        ]
        return response(models=models)

    async def repository_model_load(self, request: Any) -> Any:
        _no_repository(request)
        for name in request.parameters:
            if name == "config" or name.startswith("file:"):
                raise Unsupported(
                    f"parameter {shown(name)}: a model's configuration does not come with its load",
                    where=name,
                    hint="push a version of the model that has it",
                )
        version = version_of(plain_parameters(request.parameters), ("version",))
        await self._instance.load(request.model_name, version)
        return self._messages.RepositoryModelLoadResponse()

    async def repository_model_unload(self, request: Any) -> Any:
        _no_repository(request)
        version = version_of(plain_parameters(request.parameters), ("version", "unload_dependents"))
        await self._instance.unload(request.model_name, version)
        return self._messages.RepositoryModelUnloadResponse()

    def _find(self, request: Any) -> Deployment:
        return self._plane.find(request.name, request.version or None)

    def _configured(self, kind: Any, spec: TensorSpec, *, batched: bool) -> Any:
        shape = spec.shape[1:] if batched else spec.shape
        wire = spec.datatype.wire
        # Configurations have no tensors without axes: a column has one of a single element, and says so.
        configured = kind(name=spec.name, dims=shape or (1,))
        configured.data_type = _TYPES[wire]
        if not shape:
            configured.reshape.SetInParent()
        return configured

    def _statistics(self, each: DeploymentStatistics) -> Any:
        messages = self._messages
        cache = each.cache or CacheCounts()
        return messages.ModelStatistics(
            name=each.model,
            version=each.version,
            last_inference=int(each.last_inference_s * 1000),
            inference_count=each.rows,
            execution_count=each.runs.count,
            inference_stats=messages.InferStatistics(
                success=self._duration(each.success),
                fail=self._duration(each.failure),
                queue=self._duration(each.queue),
                compute_infer=self._duration(each.runs),
                cache_hit=self._duration(cache.hits),
                cache_miss=self._duration(Durations(cache.misses + cache.joined)),
            ),
            batch_stats=[
                messages.InferBatchStatistics(batch_size=size.rows, compute_infer=self._duration(size.runs))
                for size in each.batches
            ],
        )

    def _duration(self, durations: Durations) -> Any:
        return self._messages.StatisticDuration(count=durations.count, ns=round(durations.seconds * 1e9))


_TYPES = {
    "BOOL": 1,
    "UINT8": 2,
    "UINT16": 3,
    "UINT32": 4,
    "UINT64": 5,
    "INT8": 6,
    "INT16": 7,
    "INT32": 8,
    "INT64": 9,
    "FP16": 10,
    "FP32": 11,
    "FP64": 12,
    "BYTES": 13,
    "BF16": 14,
}
"""The numbers in the proto's DataType, by the types' names on the wire."""


def _batched(deployment: Deployment) -> bool:
    """Whether every tensor has any number of rows."""
    signature = deployment.signature
    return all(spec.shape[0] == ANY for spec in (*signature.inputs, *signature.outputs))


def _no_repository(request: Any) -> None:
    if request.repository_name:
        raise Unsupported(
            f"no repository {shown(request.repository_name)}: there is one, without a name",
            where="repository_name",
        )

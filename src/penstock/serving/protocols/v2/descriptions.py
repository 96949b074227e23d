"""What V2's extensions tell of models: Triton's model configuration and its statistics."""

from collections.abc import Iterable
from typing import Any

from penstock.core.signature import ANY, Signature, TensorSpec
from penstock.core.tensors import DataType
from penstock.serving.deployment import Deployment
from penstock.serving.statistics import CacheCounts, DeploymentStatistics, Durations, told_beside

__all__ = ["model_configuration", "model_statistics"]

NANOSECONDS = 1e9
MILLISECONDS = 1e3
_NONE = Durations()


def model_configuration(deployment: Deployment) -> dict[str, Any]:
    """Triton's model configuration, as far as it means something here.

    The axis of rows is left out of `dims` where `max_batch_size` is above 0; a model that is bound to a number
    of rows has 0 there, and all its axes in `dims`.
    """
    signature: Signature = deployment.signature
    bound = any(spec.shape[0] != ANY for spec in (*signature.inputs, *signature.outputs))
    return {
        "name": deployment.model,
        "platform": deployment.platform,
        "backend": deployment.platform,
        "max_batch_size": 0 if bound else deployment.batch_rows_max,
        "input": [_tensor(spec, bound=bound) for spec in signature.inputs],
        "output": [_tensor(spec, bound=bound) for spec in signature.outputs],
    }


def _tensor(spec: TensorSpec, *, bound: bool) -> dict[str, Any]:
    named = "STRING" if spec.datatype in (DataType.STRING, DataType.BYTES) else spec.datatype.value
    dims = list(spec.shape if bound else spec.shape[1:])
    configured = {"name": spec.name, "data_type": f"TYPE_{named}", "dims": dims or [1]}
    # Configurations have no tensors without axes: a column has one of a single element, and says so.
    return configured if dims else {**configured, "reshape": {"shape": []}}


def model_statistics(statistics: Iterable[DeploymentStatistics]) -> dict[str, Any]:
    """The answer of Triton's statistics extension: `last_inference` in milliseconds since 1970, durations in
    nanoseconds. Turning bytes to tensors and back is no part of the measured time here, so that it is 0, and so
    is looking up what is not kept. Who joined another's run found nothing kept, and is a miss to Triton.
    What Triton has no word for stands under `penstock`.
    """
    return {"model_stats": [_version(each) for each in statistics]}


def _version(each: DeploymentStatistics) -> dict[str, Any]:
    runs = each.runs
    cache = each.cache or CacheCounts()
    told: dict[str, Any] = {
        "name": each.model,
        "version": each.version,
        "last_inference": round(each.last_inference_s * MILLISECONDS),
        "inference_count": each.rows,
        "execution_count": runs.count,
        "inference_stats": {
            "success": _durations(each.success),
            "fail": _durations(each.failure),
            "queue": _durations(each.queue),
            "compute_input": _durations(_NONE),
            "compute_infer": _durations(runs),
            "compute_output": _durations(_NONE),
            "cache_hit": _durations(cache.hits),
            "cache_miss": _durations(Durations(cache.misses + cache.joined)),
        },
        "batch_stats": [
            {
                "batch_size": size.rows,
                "compute_input": _durations(_NONE),
                "compute_infer": _durations(size.runs),
                "compute_output": _durations(_NONE),
            }
            for size in each.batches
        ],
    }
    beside = told_beside(each)
    return {**told, "penstock": beside} if beside else told


def _durations(durations: Durations) -> dict[str, int]:
    return {"count": durations.count, "ns": round(durations.seconds * NANOSECONDS)}

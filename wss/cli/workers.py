"""Back ends for CPU work: processes on this machine, or a running cluster, through joblib's back ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CONNECT_S = 15


@contextmanager
def workers(backend: str, address: str | None, jobs: int) -> Iterator[int]:
    """Send the CPU work of stages to a back end. Yields the number of calls to run at the same time.

    The machines of a cluster must have wss installed, and must have the workspace and the data under the same paths.

    Args:
        backend: ``loky`` (processes on this machine), ``dask`` or ``ray``.
        address: The cluster's scheduler; for Ray, None means the cluster of this machine.
        jobs: Number of calls at the same time; 0 = all cores of this machine or of the cluster.

    Raises:
        UsageError: The back end does not exist, or its address or package is missing.
        WssError: The cluster does not answer, or has no workers.
    """
    from wss.errors import UsageError
    from wss.params import nearest

    if backend == "loky":
        if address is not None:
            raise UsageError("--address is the address of a cluster: give --backend dask or ray as well")
        yield jobs
    elif backend == "dask":
        if address is None:
            raise UsageError(
                "--backend dask needs --address tcp://HOST:8786; `dask scheduler` prints it when it starts"
            )
        yield from _dask(address, jobs)
    elif backend == "ray":
        yield from _ray(address, jobs)
    else:
        raise UsageError(f"--backend {backend}: no such back end{nearest(backend, ('loky', 'dask', 'ray'))}")


def _dask(address: str, jobs: int) -> Iterator[int]:
    from joblib import effective_n_jobs, parallel_config

    from wss.errors import UsageError, WssError

    try:
        from distributed import Client
    except ImportError:
        raise UsageError("--backend dask needs a package that is not installed: pip install wss[dask]") from None
    try:
        client: Any = Client(address, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise WssError(
            f"no Dask scheduler answers at {address} ({error or type(error).__name__}); start one with `dask scheduler` and "
            "workers with `dask worker ADDRESS`"
        ) from None
    with client, parallel_config(backend="dask", client=client, wait_for_workers_timeout=CONNECT_S):
        if not client.nthreads():
            raise WssError(f"the Dask scheduler at {address} has no workers; start some with `dask worker {address}`")
        yield jobs or effective_n_jobs(-1)


def _ray(address: str | None, jobs: int) -> Iterator[int]:
    from joblib import effective_n_jobs, parallel_config

    from wss.errors import UsageError, WssError

    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise UsageError("--backend ray needs a package that is not installed: pip install wss[ray]") from None
    try:
        ray.init(address=address or "auto", logging_level="ERROR", log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        where = address or "this machine"
        raise WssError(f"no Ray cluster answers at {where} ({error}); start one with `ray start --head`") from None
    register_ray()
    settings: dict[str, Any] = {"backend": "ray"}
    try:
        with parallel_config(**settings):
            yield jobs or effective_n_jobs(-1)
    finally:
        ray.shutdown()

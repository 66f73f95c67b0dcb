"""Weights with which a training begins: random, from a file, or those of an earlier training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from wss.errors import UsageError
from wss.networks import load_pretrained
from wss.params import nearest
from wss.stages.stage import Context, Inputs
from wss.stages.train_params import TrainParams
from wss.store import Store


def initialise(model: nn.Module, params: TrainParams, inputs: Inputs, context: Context) -> dict[str, Any]:
    """Give a model the weights with which its training begins.

    Args:
        model: The model; its weights are replaced in place.
        params: The training: which weights, and which parts begin anew.
        inputs: Its inputs. With ``initial`` the weights of that store are used.
        context: Receives a message if the weights are random.

    Returns:
        A record of where the weights came from, for the store.

    Raises:
        UsageError: The parameters contradict each other or name unknown parts, or weights do not fit the model.
    """
    store = inputs.maybe("initial")
    if store is None and params.fresh:
        raise UsageError(
            f"train: fresh names {', '.join(params.fresh)}, but fresh applies only when training continues from the input "
            "`initial`, and this stage has no such input; leave fresh out, or add the input"
        )
    if store is not None:
        absent = _continue(model, store, params.fresh)
        return {**store.meta["initialisation"], "continued_from": store.key, "new": absent}
    initialisation = load_pretrained(model, params.weights)
    if initialisation.random:
        context.progress.say(
            f"{initialisation.source} has no weights for {' and '.join(initialisation.random)}: these start from random weights"
        )
    return dict(initialisation.model_dump(mode="json"))


def _continue(model: nn.Module, store: Store, fresh: tuple[str, ...]) -> list[str]:
    """Load the weights of another training into the model, in place.

    Returns:
        The parts that keep their own weights: ``fresh`` parts, and parts that the other network lacks.

    Raises:
        UsageError: The other network has parts that this model lacks or that have other shapes, or a ``fresh`` entry matches no
            weight.
    """
    return _load(model, store.tree("state"), fresh, str(store.path))


def check_initial(params: TrainParams, before: TrainParams, classes: int, name: str) -> None:
    """Check that a training can continue from the network of another training.

    Args:
        params: Parameters of the training.
        before: Parameters of the other training.
        classes: Number of classes of the data set.
        name: Name of the other training, for the error.

    Raises:
        UsageError: See ``_continue``.
    """
    if (params.network, params.method) != (before.network, before.method):
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            state = before.method.build(before.network, classes).state_dict()
            _load(params.method.build(params.network, classes), state, params.fresh, name)


def _load(model: nn.Module, state: Mapping[str, Any], fresh: tuple[str, ...], source: str) -> list[str]:
    require_known_parts(model, fresh)
    state = {name: value for name, value in state.items() if not name.startswith(fresh)}
    try:
        absent, beyond = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        problem = str(error)
    else:
        parts = {name.rpartition(".")[0] for name in absent}
        if not beyond:
            return sorted(part for part in parts if not any(part.startswith(f"{other}.") for other in parts))
        problem = f"it has {', '.join(beyond[:3])}{' and more' if len(beyond) > 3 else ''}, which this one lacks"
    raise UsageError(
        f"train: the network of {source} does not fit this stage's network (network and classes must be the same, and the "
        f"method may add parts but not remove any): {problem}"
    )


def require_known_parts(model: nn.Module, fresh: tuple[str, ...]) -> None:
    """Raise ``UsageError`` if a model has no part of one of these names."""
    names = list(model.state_dict())
    for prefix in fresh:
        if not any(name.startswith(prefix) for name in names):
            parts = {name.partition(".")[0] for name in names}
            raise UsageError(f"train: fresh: no weight begins with {prefix!r}{nearest(prefix, parts)}")

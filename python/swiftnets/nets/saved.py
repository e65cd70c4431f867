"""A net and its parameters in one file: a NumPy archive with the net's settings, never a pickle."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.checkpoints import CheckpointError, read_archive, write_archive
from swiftnets._support.files import File, writable
from swiftnets._support.types import FloatArray
from swiftnets.nets import layers as kinds_of_layers
from swiftnets.nets.activations import Activation
from swiftnets.nets.classes import ClassifyingNetwork
from swiftnets.nets.custom import CustomActivation
from swiftnets.nets.layer import Layer
from swiftnets.nets.layers.residual import Residual
from swiftnets.nets.losses import Loss

__all__ = ["StoredNetwork"]


def __dir__() -> list[str]:
    return __all__


Maker: TypeAlias = Callable[..., Any]
Own: TypeAlias = Mapping[str, CustomActivation]

_FORMAT, _VERSION = "swiftnets net", 1
_PATHS = ("body", "shortcut")  # of a `Residual`
_LAYERS: dict[str, type[Layer]] = {
    "Activation": Activation,
    **{name: getattr(kinds_of_layers, name) for name in kinds_of_layers.__all__},
}


class StoredNetwork(ClassifyingNetwork, internal=("kind",)):
    """A net that is written to a file, and read from one; see `swiftnets.Network`."""

    def _same(self) -> tuple[object, ...]:
        """What two nets that are equal share, as their `settings` do."""
        return (
            type(self),
            self.layers,
            self.input_shape,
            self.loss_function,
            self.reduction,
            self.l2,
            self.dtype,
            self.classes,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredNetwork) and self._same() == other._same()

    def __hash__(self) -> int:
        return hash(self._same())

    def save(self, path: File, w: npt.ArrayLike) -> None:
        """Write the net with its parameters to a file, whole or not at all.

        Parameters
        ----------
        path : path
            Of a NumPy archive, as it is: no ending is added.
        w : (P,) array_like

        Raises
        ------
        TypeError
            If an argument is of another kind.
        ValueError
            If it is not as above, or two `CustomActivation` of the net have one name.
        OSError
            If the file cannot be written.

        Notes
        -----
        In it are the net's `settings` as JSON, with a version, and w as it is, to the last bit; no
        pickle. What `load` reads is checked, so that a file may come from anyone. Of a
        `CustomActivation` there is the name, and the numbers by which `load` recognises it.

        Examples
        --------
        >>> import tempfile
        >>> from swiftnets import MLP
        >>> net = MLP((2, 3, 1), activation="softplus")
        >>> w = net.initial(seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(f"{folder}/net.npz", w)
        ...     again, weights = MLP.load(f"{folder}/net.npz")
        >>> again, bool((weights == w).all())
        (MLP((2, 3, 1), activation='softplus', output_activation='identity', \
loss='squared_error', reduction='sum'), True)
        """
        own = self._own()
        file = writable(path, "path")
        vector = self.engine.vector(w, "w")
        names = [row.torch_name for row in self.parameter_table]
        settings = {"net": _portable(self.settings(), own), "torch names": names}
        if own:
            settings["activations"] = {name: one.samples.tolist() for name, one in own.items()}
        write_archive(file, _FORMAT, _VERSION, settings, {"w": vector})

    @classmethod
    def load(
        cls, path: File, *, activations: Sequence[CustomActivation] = ()
    ) -> tuple[Self, FloatArray]:
        """A net and its parameters from a file that `save` wrote.

        Parameters
        ----------
        path : path
        activations : sequence of CustomActivation
            Those of the net, in any order: a file has no functions.

        Returns
        -------
        net : Network
            An `MLP` where one was saved.
        w : (P,) float array

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        OSError
            If it is no regular file, or cannot be read.
        TypeError, ValueError
            If an argument is not as above.
        CheckpointError
            If it is damaged, of another kind or version, or has no net of this class; or if
            `activations` has not the names that the net was saved with, or another function of such
            a name.

        Examples
        --------
        >>> import tempfile
        >>> from swiftnets import MLP
        >>> from swiftnets.nets import CustomActivation
        >>> square = CustomActivation("square", lambda a: a * a, lambda a: 2 * a)
        >>> net = MLP((2, 3, 1), activation=square)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(f"{folder}/net.npz", net.initial(seed=0))
        ...     again, w = MLP.load(f"{folder}/net.npz", activations=[square])
        >>> again == net
        True
        """
        own = _named(activations)
        file = checks.path(path, "path")
        if file.exists() and not file.is_file():
            raise OSError(f"path is {file}, which is no regular file")
        found = read_archive(file, _FORMAT, _VERSION, partial(cls._made, file, own), "path")
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
        net, w = found
        if not isinstance(net, cls):
            kind = type(net).__name__
            raise CheckpointError(
                f"path: {file} has a net of class {kind}, not {cls.__name__}; see {kind}.load"
            )
        return net, w

    @classmethod
    def kind(cls, is_chain: bool) -> type[StoredNetwork]:
        """The class of a net that is read; `swiftnets.Network` says which."""
        raise NotImplementedError

    def _own(self) -> Own:
        """Its activations of one's own, by name; a ValueError if two share one."""
        found: dict[str, CustomActivation] = {}
        for layer in (node.layer for node in self._graph.nodes):
            if not isinstance(layer, CustomActivation):
                continue
            if found.setdefault(layer.name, layer).key != layer.key:
                raise ValueError(
                    f"the net has two {layer!r}, whose values differ; expected a name for each, as "
                    "a file has names alone"
                )
        return found

    @classmethod
    def _made(
        cls,
        file: Path,
        own: Own,
        settings: dict[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
    ) -> tuple[StoredNetwork, FloatArray]:
        """What was saved; whatever is wrong is an error that the caller explains."""
        w, given = np.ascontiguousarray(arrays["w"]), settings["net"]
        if w.ndim != 1 or w.dtype.name != given["dtype"] or not w.dtype.isnative:
            raise ValueError(f"w is {w.dtype.str} of shape {w.shape}")
        _require_own(file, own, settings.get("activations", {}))
        is_chain = "sizes" in given
        net = (_chain if is_chain else _network)(given, cls.kind(is_chain), own)
        if net.parameter_count != len(w):
            raise ValueError(f"w has {len(w)} numbers, and the net {net.parameter_count}")
        if _portable(net.settings(), own) != given or set(net._own()) != set(own):
            raise ValueError("its settings are not those of a net")
        names = settings["torch names"]
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"its names are {names!r}")
        if names != [row.torch_name for row in net.parameter_table]:
            net.parameter_table.named(names)  # as many as there are
            net.name_for_torch(names)
        return net, w


def _named(activations: Any) -> Own:
    """What is given to `load`, by name."""
    expected = "expected a sequence of CustomActivation"
    if isinstance(activations, (str, Mapping)) or not checks.iterable(activations):
        raise TypeError(f"activations is of type {type(activations).__name__}; {expected}")
    own: dict[str, CustomActivation] = {}
    for index, one in enumerate(checks.several(activations, "activations")):
        if not isinstance(one, CustomActivation):
            raise TypeError(f"activations[{index}] is of type {type(one).__name__}; {expected}")
        if one.name in own:
            raise ValueError(
                f"activations[{index}] is {one!r}, as one before it; expected one of each name"
            )
        own[one.name] = one
    return own


def _require_own(file: Path, own: Own, there: Mapping[str, Any]) -> None:
    """A CheckpointError if activations are not those that a file names."""
    if set(own) != set(there):
        raise CheckpointError(
            f"activations has the names {sorted(own)}; expected {sorted(there)}: those of the "
            f"CustomActivation that the net in {file} was saved with"
        )
    for name, one in own.items():
        samples = np.array(there[name], np.float64)
        if samples.shape != one.samples.shape or not np.isfinite(samples).all():
            raise ValueError(f"what it has of {name!r} is no sample")
        try:
            one.require_samples(samples)
        except ValueError as error:
            raise CheckpointError(f"activations: {error}, as in {file}") from None


def _portable(settings: dict[str, Any], own: Own) -> dict[str, Any]:
    """Settings without the hashes of values that another machine may round otherwise."""

    def layers(given: list[Any]) -> list[Any]:
        return [[kind, layer(kind, parts)] for kind, parts in given]

    def layer(kind: str, parts: dict[str, Any]) -> dict[str, Any]:
        if kind == CustomActivation.__name__:
            return {"name": parts["name"]}
        return {name: layers(part) if name in _PATHS else part for name, part in parts.items()}

    if "layers" in settings:
        return settings | {"layers": layers(settings["layers"])}
    chain = settings["activations"]
    return settings | {"activations": [[n, None if n in own else value] for n, value in chain]}


def _rest(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "loss": Loss(*given["loss"]),
        "reduction": given["reduction"],
        "l2": given["l2"],
        "dtype": given["dtype"],
        "classes": given.get("classes"),
    }


def _chain(given: Mapping[str, Any], make: Maker, own: Own) -> Any:
    *hidden, last = (
        own[name] if name in own else Activation(name, parameter)
        for name, parameter in given["activations"]
    )
    return make(
        given["sizes"],
        activation=hidden,
        output_activation=last,
        bias=given["bias"],
        **_rest(given),
    )


def _network(given: Mapping[str, Any], make: Maker, own: Own) -> Any:
    return make(_layers(given["layers"], own), given["input_shape"], **_rest(given))


def _layers(given: list[Any], own: Own) -> list[Layer]:
    return [_layer(name, settings, own) for name, settings in given]


def _layer(name: str, settings: dict[str, Any], own: Own) -> Layer:
    if name == CustomActivation.__name__:
        return own[settings["name"]]
    if name not in _LAYERS:
        raise ValueError(f"there is no layer {name!r}")
    kind = _LAYERS[name]
    if kind is Residual:
        return Residual(*(_layers(settings[path], own) for path in _PATHS))
    return kind(**settings)

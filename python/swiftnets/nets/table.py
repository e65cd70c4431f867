"""`ParameterTable`: where each array of parameters is in a net's vector."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

__all__ = ["ParameterRow", "ParameterTable", "columns"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class ParameterRow:
    """One array of a net's parameters.

    Attributes
    ----------
    name : str
        In `Network.unflatten`.
    layer : int
        The number of its layer among those with parameters: what blocks of matrices and
        `Network.layer_slices` count.
    shape : tuple of int
        Its numbers are row by row in the vector.
    slice : slice
        Of the vector.
    layout : str
        What its dimensions are.
    torch_name : str
        The parameter's name in PyTorch: in the module that the net was made from, or in a
        ``Sequential`` of the same layers, as `Network.to_torch` makes it.
    """

    name: str
    layer: int
    shape: tuple[int, ...]
    slice: slice
    layout: str
    torch_name: str


class ParameterTable:
    """The arrays of a net's parameters in the order of the vector; rows by number or name.

    Parameters
    ----------
    rows : iterable of ParameterRow

    Examples
    --------
    >>> from swiftnets import MLP
    >>> table = MLP((3, 2)).parameter_table
    >>> print(table)
    name  layer  shape   slice  layout   PyTorch
    w0    0      (3, 2)  0:6    in, out  0.weight
    b0    0      (2,)    6:8    out      0.bias
    >>> table["b0"].slice
    slice(6, 8, None)
    """

    def __init__(self, rows: Iterable[ParameterRow]) -> None:
        self._rows = tuple(rows)
        self._places = {row.name: index for index, row in enumerate(self._rows)}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[ParameterRow]:
        return iter(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._places or name in self._rows

    def __getitem__(self, which: int | str) -> ParameterRow:
        if isinstance(which, str):
            if which not in self._places:
                raise KeyError(f"there is no {which!r}; there are {', '.join(self._places)}")
            which = self._places[which]
        return self._rows[which]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ParameterTable) and self._rows == other._rows

    def __hash__(self) -> int:
        return hash(tuple(row.name for row in self._rows))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        head = ("name", "layer", "shape", "slice", "layout", "PyTorch")
        return columns(
            [head]
            + [
                (
                    row.name,
                    str(row.layer),
                    str(row.shape),
                    f"{row.slice.start}:{row.slice.stop}",
                    row.layout,
                    row.torch_name,
                )
                for row in self._rows
            ]
        )

    def named(self, torch_names: Iterable[str]) -> ParameterTable:
        """The same with other names in PyTorch.

        Parameters
        ----------
        torch_names : iterable of str
            One a row.

        Returns
        -------
        ParameterTable
        """
        pairs = zip(self._rows, torch_names, strict=True)
        return ParameterTable(replace(row, torch_name=name) for row, name in pairs)

    @property
    def count(self) -> int:
        """All numbers of all arrays."""
        return sum(math.prod(row.shape) for row in self._rows)


def columns(rows: Sequence[tuple[str, ...]], right: int | None = None) -> str:
    """Rows of words under one another, one column to the right where asked."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            word.rjust(width) if index == right else word.ljust(width)
            for index, (word, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)

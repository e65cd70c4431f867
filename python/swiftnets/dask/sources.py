"""Where samples come from: Dask arrays, or delayed batches; one partition a chunk or a batch."""

from __future__ import annotations

import math
from typing import Any

from swiftnets.dask import worker

__all__ = ["readers"]


def __dir__() -> list[str]:
    return __all__


def readers(settings: bytes, x: Any, y: Any, sample_weight: Any, token: str) -> list[Any]:
    """Delayed partitions.

    Parameters
    ----------
    settings : bytes
        The net, pickled.
    x, y, sample_weight
        As `DaskProblem` takes them.
    token : str
        Ends the tasks' names.

    Returns
    -------
    list of dask.delayed.Delayed

    Raises
    ------
    TypeError
        If they are not what it says.
    ValueError
        If they are not cut as they must be.
    """
    from dask.delayed import delayed as make

    def delayed(function: Any, index: int, *arguments: Any) -> Any:
        name = f"{'partition' if y is not None else 'batch'} {index}"
        task: Any = make(function, pure=False, traverse=False)
        return task(settings, name, *arguments, dask_key_name=f"read-samples-{token}-{index}")

    if y is None:
        if sample_weight is not None:
            raise TypeError(
                "sample_weight goes with x and y; give batches as tuples (x, y, sample_weight)"
            )
        items = _batches(x)
        return [delayed(worker.read_item, index, item) for index, item in enumerate(items)]
    columns = [_blocks(x, "x"), _blocks(y, "y")]
    _require_rows(x, y, "y")
    if sample_weight is None:
        columns.append([None] * len(columns[0]))
    else:
        columns.append(_blocks(sample_weight, "sample_weight"))
        _require_rows(x, sample_weight, "sample_weight")
    rows = enumerate(zip(*columns, strict=True))
    return [delayed(worker.read, index, *row) for index, row in rows]


def _batches(given: Any) -> list[Any]:
    import distributed
    from dask.delayed import Delayed

    if not isinstance(given, (list, tuple)):
        raise TypeError(
            f"y is None and x is of type {type(given).__name__}; expected Dask arrays x and y, or "
            "in place of x a list of delayed batches (x, y)"
        )
    if not given:
        raise ValueError("x has no batches; expected at least one")
    for index, item in enumerate(given):
        if not isinstance(item, (Delayed, distributed.Future)):
            raise TypeError(
                f"batch {index} is of type {type(item).__name__}; expected one that is delayed, as "
                "dask.delayed makes them, or a future"
            )
    return list(given)


def _blocks(array: Any, name: str) -> list[Any]:
    """The chunks of a Dask array, which are cut between samples alone."""
    import dask.array

    if not isinstance(array, dask.array.Array):
        raise TypeError(
            f"{name} is of type {type(array).__name__}; expected a Dask array (see "
            "dask.array.from_array), or delayed batches in place of x, with y=None"
        )
    if array.ndim == 0:
        raise ValueError(f"{name} has shape (); expected samples as rows")
    for axis, chunks in enumerate(array.chunks[1:], 1):
        if len(chunks) > 1:
            raise ValueError(
                f"{name} has {len(chunks)} chunks along axis {axis}; expected one, as a sample is "
                f"not cut: {name}.rechunk({{{axis}: -1}})"
            )
    given: Any = array
    blocks: list[Any] = given.to_delayed().reshape(-1).tolist()
    return blocks


def _require_rows(x: Any, other: Any, name: str) -> None:
    """The same cuts; where lengths are not known, as many of them: the workers look further."""
    mine, theirs = x.chunks[0], other.chunks[0]
    pairs = zip(mine, theirs, strict=False)
    differ = any(a != b for a, b in pairs if not (math.isnan(a) or math.isnan(b)))
    if len(mine) == len(theirs) and not differ:
        return
    known = not any(math.isnan(size) for size in (*mine, *theirs))
    if known and sum(mine) != sum(theirs):
        raise ValueError(f"{name} has {sum(theirs)} rows; expected {sum(mine)}, as x has")
    hint = f": {name}.rechunk({{0: x.chunks[0]}})" if known else ""
    raise ValueError(
        f"{name} has chunks of {_shown(theirs)} rows; expected those of x, {_shown(mine)}{hint}"
    )


def _shown(chunks: tuple[Any, ...]) -> str:
    few = ", ".join("?" if math.isnan(size) else str(size) for size in chunks[:6])
    return f"({few}, …; {len(chunks)} chunks)" if len(chunks) > 6 else f"({few})"

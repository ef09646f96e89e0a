"""Give a symbol table to NumPy, pandas, polars or Arrow: a row for each symbol, a column for each field of `Symbol`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError
from kallsift.optional_package import MissingPackageError, optional_package

if TYPE_CHECKING:
    from kallsift.kallsyms.symbol_table import SymbolTable


def numpy_columns(table: SymbolTable) -> dict[str, NDArray[Any]]:
    """Return the columns as arrays, see `SymbolTable.to_numpy`."""
    columns = _columns(table)
    return columns | {"name": np.array(columns["name"], np.dtypes.StringDType())}


def pandas_frame(table: SymbolTable) -> Any:
    """Return a ``pandas.DataFrame``, see `SymbolTable.to_pandas`."""
    return _package("pandas").DataFrame(_columns(table))


def polars_frame(table: SymbolTable) -> Any:
    """Return a ``polars.DataFrame``, see `SymbolTable.to_polars`."""
    return _package("polars").DataFrame(_columns(table))


def arrow_table(table: SymbolTable) -> Any:
    """Return a ``pyarrow.Table``, see `SymbolTable.to_arrow`."""
    return _package("pyarrow").table(_columns(table))


def _columns(table: SymbolTable) -> dict[str, Any]:
    """Return the columns of all symbols that iteration yields.

    Names are a list.
    """
    rows = np.flatnonzero(table.whole)
    names = table.names()
    return {
        "address": table.addresses[rows],
        "type": table.types()[rows].astype(np.uint32).view("U1"),
        "name": names if len(rows) == len(names) else [names[row] for row in rows.tolist()],
        "index": rows,
    }


def _package(name: str) -> Any:
    """Import the package that makes a table.

    Raises:
        KallsiftError: if it is not installed.
    """
    try:
        return optional_package(name)
    except MissingPackageError as error:
        raise KallsiftError(f"a table of {name} needs the package {error}; pip install {error}") from error

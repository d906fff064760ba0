"""What the files of a version say: from the parts of a `Bundle` to arrays and tables, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.errors import BundleError, ConfigError, DataError, RecaeError, ResourceError
from recae.models.registry import config_class, model_class
from recae.ranking.recommender import Recommender
from recae.storage import read_safetensors
from recae.version import VERSION


def config_document(model: Recommender) -> dict[str, object]:
    """Content of ``config.json``.

    Raises
    ------
    ConfigError
        If the registry does not know the model, so that nobody could load it.
    """
    if model_class(model.name) is not type(model):
        raise ConfigError(
            f"{type(model).__name__} is not the registered model {model.name!r}; recae.register the"
            " class, and fit again where it was defined anew"
        )
    return {
        "model": model.name,
        "options": asdict(model.config),
        "n_items": model.n_items,
        "recae": VERSION,
    }


def load_model(document: Mapping[str, Any], weights: bytes, where: Path) -> Recommender:
    """Fitted model from ``config.json`` and ``model.safetensors``; `where` names the version.

    Options that the model no longer has are left out; see `Options.stored`.

    Raises
    ------
    BundleError
        If the two do not make a model.
    """
    name, options, n_items = (document.get(key) for key in ("model", "options", "n_items"))
    if not isinstance(name, str) or not isinstance(options, dict) or type(n_items) is not int:
        raise BundleError(f"{where}/config.json does not say model, options and n_items")
    try:
        config = config_class(name).stored(options)
        model = model_class(name).from_arrays(config, read_safetensors(weights))
    except ResourceError:  # the directory is not to blame
        raise
    except (RecaeError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise BundleError(f"{where} holds no usable {name!r:.80} model: {error}") from error
    if model.n_items != n_items:
        raise BundleError(f"{where} has a model of {model.n_items} items, not {n_items}")
    return model


def items_table(items: IdMap, item_table: Any, popularity: Int64[np.ndarray, " items"]) -> Any:
    """Arrow table of ``items.parquet``.

    Columns ``item_id``, ``popularity`` (training interactions) and what else `item_table` has; its
    own columns of those two names give way. ``title`` becomes text.
    """
    columns = {"item_id": items.to_arrow(), "popularity": pa.array(popularity)}
    for name in [] if item_table is None else item_table.column_names:
        column = item_table[name]
        columns.setdefault(name, column.cast(pa.string()) if name == "title" else column)
    return pa.table(columns)


def read_items(content: bytes, n_items: int, path: Path) -> tuple[IdMap, Any, np.ndarray]:
    """Ids, item table and popularity of ``items.parquet``.

    Raises
    ------
    BundleError
        If the table is not one of `n_items` items.
    """
    table = _read_parquet(content, n_items, path)
    if "popularity" not in table.column_names or table["popularity"].type != pa.int64():
        raise BundleError(f"{path} has no column popularity of whole numbers")
    popularity = table["popularity"].combine_chunks()
    if popularity.null_count or pc.any(pc.less(popularity, 0)).as_py():
        raise BundleError(f"{path} has popularity counts that are missing or negative")
    return _ids(table, "item_id", path), table, popularity.to_numpy().astype(np.int64)


def titles_of(item_table: Any, path: Path) -> list[str | None] | None:
    """Title of each item, or None when the table has no such column.

    Raises
    ------
    BundleError
        If titles are not texts.
    """
    if "title" not in item_table.column_names:
        return None
    column = item_table["title"]
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise BundleError(f"{path} has titles of type {column.type}; titles are texts")
    titles: list[str | None] = column.to_pylist()
    return titles


def read_users(content: bytes, n_users: int, path: Path) -> IdMap:
    """Ids of ``users.parquet``.

    Raises
    ------
    BundleError
        If the table is not one of `n_users` users.
    """
    return _ids(_read_parquet(content, n_users, path), "user_id", path)


def _read_parquet(content: bytes, n_rows: int, path: Path) -> Any:
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        if file.metadata.num_rows != n_rows:
            raise BundleError(f"{path} has {file.metadata.num_rows} rows; {n_rows} were expected")
        # Arrow threads that outlive a short command can abort it at its exit
        return file.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BundleError(f"{path} is not a Parquet file: {error}") from error


def _ids(table: Any, column: str, path: Path) -> IdMap:
    if column not in table.column_names:
        raise BundleError(f"{path} has no column {column}")
    array = table[column].combine_chunks()
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise BundleError(f"{path} has ids of type {array.type}; ids are texts")
    if array.null_count or pc.count_distinct(array).as_py() != len(array):
        raise BundleError(f"{path} has ids that are missing or occur twice")
    return IdMap.from_arrow(array)


def history_arrays(histories: Histories) -> dict[str, np.ndarray]:
    """Arrays of ``histories.safetensors``, as narrow as their values allow.

    ``indptr``, ``indices``, ``n_items``; ``values`` (ratings or weights) where they are not all 1;
    ``order`` where it is known; ``seen_indptr`` and ``seen_indices`` where there are pairs that are
    seen and not positive.
    """
    matrix = histories.matrix
    arrays = {
        "indptr": _narrow(matrix.indptr),
        "indices": _narrow(matrix.indices),
        "n_items": np.array(histories.n_items, dtype=np.int64),
    }
    if (matrix.data != 1).any():
        arrays["values"] = matrix.data
    if histories.order is not None:
        arrays["order"] = _narrow(histories.order)
    if histories.seen is not None:
        arrays["seen_indptr"] = _narrow(histories.seen.indptr)
        arrays["seen_indices"] = _narrow(histories.seen.indices)
    return arrays


def _narrow(values: np.ndarray) -> np.ndarray:
    fits = values.size == 0 or (values.min() >= 0 and values.max() < 1 << 31)
    return values.astype(np.int32 if fits else np.int64)


def read_histories(content: bytes, n_items: int, path: Path) -> Histories:
    """Histories of ``histories.safetensors``.

    Raises
    ------
    BundleError
        If they are not rows over `n_items` items.
    """
    arrays = read_safetensors(content)
    needed, seen_names = {"indptr", "indices", "n_items"}, {"seen_indptr", "seen_indices"}
    known = needed | {"values", "order"} | seen_names
    if not needed <= set(arrays) <= known or len(seen_names & set(arrays)) == 1:
        raise BundleError(f"{path} holds the arrays {', '.join(sorted(arrays))}")
    whole = [arrays[name] for name in arrays if name != "values"]
    if any(array.dtype not in (np.int32, np.int64) for array in whole):
        raise BundleError(f"{path} has indices that are not whole numbers")
    if arrays["n_items"].shape != () or arrays["n_items"] != n_items:
        raise BundleError(f"{path} is about another number of items than {n_items}")
    order = arrays["order"].astype(np.int64) if "order" in arrays else None
    try:
        matrix = _rows(arrays, "", n_items, arrays.get("values"))
        seen = _rows(arrays, "seen_", n_items, None) if "seen_indptr" in arrays else None
        return Histories(matrix, order, seen)
    except (DataError, TypeError, ValueError) as error:
        raise BundleError(f"{path} does not hold histories: {error}") from error


def _rows(
    arrays: Mapping[str, np.ndarray], prefix: str, n_items: int, values: np.ndarray | None
) -> csr_array:
    """Matrix of ``indptr`` and ``indices``, refused unless its rows are sorted."""
    indptr, indices = (arrays[prefix + name].astype(np.int64) for name in ("indptr", "indices"))
    if values is None:
        values = np.ones(len(indices), dtype=np.float32)
    matrix = csr_array((values, indices, indptr), shape=(len(indptr) - 1, n_items))
    matrix.check_format(full_check=True)
    if not matrix.has_canonical_format or len(indices) != matrix.nnz:
        raise DataError("rows are not sorted")
    return matrix


def read_codes(content: bytes, n_users: int, path: Path) -> dict[str, np.ndarray]:
    """Arrays of ``codes.safetensors``.

    Raises
    ------
    BundleError
        If ``codes`` is missing, is no table with a row for each of `n_users`, or is not finite.
    """
    arrays = read_safetensors(content)
    codes = arrays.get("codes")
    if codes is None or codes.ndim != 2 or len(codes) != n_users:
        raise BundleError(f"{path} has no array codes with a row for each of {n_users} users")
    if not np.isfinite(codes).all():
        raise BundleError(f"{path} has codes that are not finite")
    return arrays

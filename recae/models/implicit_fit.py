"""What `implicit` needs around it: its matrix type, one BLAS thread, our errors."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import scipy.linalg  # noqa: F401  # its BLAS must be loaded when the controller looks for it
from scipy.sparse import csr_matrix
from threadpoolctl import ThreadpoolController

from recae.data.interactions import Interactions
from recae.errors import DataError

_ONE_AT_A_TIME = threading.RLock()


def binary_rows(train: Interactions) -> csr_matrix:
    """Training rows with all values 1, as the ``csr_matrix`` of int32 that `implicit` asks for.

    Raises
    ------
    DataError
        If no training user has an interaction.
    """
    x = train.matrix
    if not x.nnz:
        raise DataError("there are no training interactions to learn from")
    ones = np.ones(x.nnz, dtype=np.float32)
    return csr_matrix((ones, x.indices.astype(np.int32), x.indptr.astype(np.int32)), shape=x.shape)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run BLAS and LAPACK on one thread, so that results do not depend on how many there are.

    The limit is the process's own, so threads that ask for it wait for one another; it is as before
    on the way out.
    """
    with _ONE_AT_A_TIME, _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()

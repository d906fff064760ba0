"""Everything that touches a disk twice: whole files, tensors, hashes, locks.

Importing this package imports the standard library and numpy only.
"""

from recae.storage.disk_errors import disk_errors
from recae.storage.files import (
    Written,
    atomic_file,
    fsync_directory,
    json_bytes,
    named_file,
    partial_name,
    refuse_overwriting,
    write_atomic,
    write_json,
    write_parquet,
)
from recae.storage.lock import directory_lock
from recae.storage.plain import directory_handle, read_plain, sha256_of
from recae.storage.tensors import StoredArrays, read_safetensors, write_safetensors

__all__ = [
    "StoredArrays",
    "Written",
    "atomic_file",
    "directory_handle",
    "directory_lock",
    "disk_errors",
    "fsync_directory",
    "json_bytes",
    "named_file",
    "partial_name",
    "read_plain",
    "read_safetensors",
    "refuse_overwriting",
    "sha256_of",
    "write_atomic",
    "write_json",
    "write_parquet",
    "write_safetensors",
]

"""How safetensors and PyTorch call the number types that clipjax reads and writes.

Both store little-endian bytes. Types that no CLIP checkpoint uses (complex, quantised, float8) are left out.
"""

import ml_dtypes
import numpy as np
from jaxtyping import UInt8

SAFETENSORS: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}

TORCH_STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}


def name_of(dtype: np.dtype, table: dict[str, np.dtype]) -> str | None:
    """Look up what a format calls `dtype`, whatever its byte order; None where it has no such type."""
    native = dtype.newbyteorder("=") if dtype.byteorder in "<>" else dtype
    return next((name for name, known in table.items() if known == native), None)


def stored_bytes(array: np.ndarray) -> UInt8[np.ndarray, " bytes"]:
    """Lay an array out as both formats store it: row by row, little-endian. Copies only where it must."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)

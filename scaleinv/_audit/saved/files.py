"""Files of tensors and plain data.  Nothing in a file runs, and a tensor is read when it is used."""

import json
import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

# The types of a safetensors file.
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_LENGTH = 8  # bytes of a safetensors file that say how long its header is


class Ignored:
    """Stands for an object that is not loaded: it takes whatever the file has for it, and keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "Ignored":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def load_plain(path: Path) -> Any:
    """Load a file that ``torch.save`` has written, if it holds tensors and plain data.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds anything else.
    """
    return _load(path, ())


def load_parts(path: Path) -> Any:
    """``load_plain``, but objects of other classes, such as a checkpoint's hyperparameters, become ``Ignored``.

    Their classes are not imported.  ``is_plain`` shows whether a part of the file is free of them.
    """
    ignored: list[str] = []
    while True:
        try:
            return _load(path, ignored)
        except ValueError as error:
            unknown = re.search(r"Unsupported global: GLOBAL (\S+) was", str(error.__cause__))
            if unknown is None or unknown[1] in ignored:
                raise
            ignored.append(unknown[1])


def is_plain(value: Any) -> bool:
    """Whether nothing in a loaded value is ``Ignored``."""
    seen, rest = set(), [value]
    while rest:
        each = rest.pop()
        if isinstance(each, Ignored):
            return False
        if id(each) not in seen and isinstance(each, Mapping | list | tuple | set):  # a file may have circles
            seen.add(id(each))
            rest += [*each, *(each.values() if isinstance(each, Mapping) else ())]
    return True


def load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, by name: its length, a header in JSON, the bytes of the tensors.

    Such a file does not keep the order of the model.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not such a file, or is cut off.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        header = file.read(length) if length <= size - _LENGTH else b""
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        data = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)[_LENGTH + length :]
        return {name: _tensor(data, entries[name]) for name in sorted(entries)}
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {textwrap.shorten(str(error), 100, placeholder=' ...')}"
        raise ValueError(f"{path} cannot be read as a safetensors file: {reason}; is it complete?") from error


def _tensor(data: torch.Tensor, entry: Mapping[str, Any]) -> torch.Tensor:
    dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not 0 <= begin <= end <= len(data) or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"there is no tensor of shape {shape} at the bytes {begin} to {end}")
    values = data[begin:end]
    aligned = values if values.storage_offset() % dtype.itemsize == 0 else values.clone()
    return aligned.view(dtype).view(shape)


def _load(path: Path, ignored: Iterable[str]) -> Any:
    names = {prefix + name for name in ignored for prefix in ("", "builtins.")}  # torch's error omits the latter
    with torch.serialization.safe_globals([(Ignored, name) for name in names]):
        try:
            return _read(path)
        except OSError:
            raise
        except Exception as error:  # UnpicklingError, RuntimeError, ...
            raise ValueError(
                f"{path} cannot be loaded as tensors and plain data: {_reason(error)}; save state_dicts with torch.save"
            ) from error


def _reason(error: Exception) -> str:
    """Why torch does not load a file, without its advice to load it all the same."""
    other = re.search(r"GLOBAL (\S+)", str(error))
    if other:
        return f"it contains {other[1]}"
    unpickling = re.search(r"WeightsUnpickler error:\s+(.+)", str(error))
    return textwrap.shorten(unpickling[1] if unpickling else str(error), 200, placeholder=" ...")


def _read(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle's newer protocols, which are refused where they matter
        try:
            return torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
        return torch.load(path, weights_only=True, map_location="cpu")  # the format of torch before 1.6

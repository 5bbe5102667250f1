"""Saved trainings as people have them: the tensors of the model and the states of its optimizers.

- two files, with ``model.state_dict()`` and ``optimizer.state_dict()``;
- one file that has both among its entries, under whatever name: a checkpoint of Lightning, or one's own;
- a folder of the Trainer of transformers or of accelerate: safetensors or ``torch.save``, in one file or in shards.
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from scaleinv._audit.saved.files import is_plain, load_parts, load_plain, load_safetensors

Tensors: TypeAlias = Mapping[str, Any]
OptimizerState: TypeAlias = Mapping[str, Any]

_MODEL_FILES = "model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin"
_OPTIMIZER_FILES = "optimizer.pt", "optimizer.bin"
_INDEX = ".index.json"  # after the name of a model's file that is in shards
# Which of several entries is the model that the optimizer trains; others are averages, teachers or discriminators.
_MODEL_ENTRIES = "model", "model_state_dict", "state_dict", "module"


class Checkpoint(NamedTuple):
    """A saved training: the model's tensors, and the state of each of its optimizers by its entry in the file."""

    model: Tensors
    optimizers: dict[str, OptimizerState]


def read_checkpoint(paths: Sequence[Path]) -> Checkpoint:
    """Read a folder, a file with all, or a file with the model and one with its optimizer.

    Raises:
        OSError: if a file cannot be read.
        TypeError: if no model, or no optimizer, is in the files.
        ValueError: if a file is not of tensors and plain data where it is used, or several models are in it.
    """
    for path in paths:
        path.stat()  # raises what names the path
    model, optimizer = paths[0], paths[-1]
    return Checkpoint(_read_model(model), _read_optimizers(optimizer))


def is_model(value: Any) -> bool:
    """Whether it is a model's state_dict: name → tensor, but for what a module adds as its own."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    return any(isinstance(each, torch.Tensor) for each in value.values())


def is_optimizer(value: Any) -> bool:
    """Whether it is an optimizer's state_dict: numbers of parameters in groups, and number → state.

    ``torch.distributed.checkpoint`` writes names in place of numbers.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("state"), Mapping):
        return False
    groups, states = value.get("param_groups"), value["state"].values()
    return isinstance(groups, list | tuple) and len(groups) > 0 and all(map(_is_group, groups)) and all(
        isinstance(state, Mapping) for state in states
    )  # fmt: skip


def _is_group(group: Any) -> bool:
    numbers = group.get("params") if isinstance(group, Mapping) else None
    if not isinstance(numbers, list | tuple) or not all(isinstance(number, int | str) for number in numbers):
        return False
    names = group.get("param_names", numbers)
    return isinstance(names, list | tuple) and len(names) == len(numbers)


# The model.


def _read_model(path: Path) -> Tensors:
    if path.is_dir():
        names = [name + suffix for name in _MODEL_FILES for suffix in ("", _INDEX)]
        return _read_model(_first(path, names, "model"))
    if path.name.endswith(_INDEX):
        return _in_shards(path)
    return load_safetensors(path) if path.suffix == ".safetensors" else _model(path, load_parts(path))


def _first(folder: Path, names: Sequence[str], what: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has no {what}: none of {', '.join(names)}; pass the file itself")


def _in_shards(index: Path) -> Tensors:
    """The tensors of all files that an index names."""
    try:
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        outside = [file for file in files if Path(file).name != file]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{index} is not an index of a model in shards; pass the model's own file") from error
    if outside:
        raise ValueError(f"{index} names {outside[0]!r}, which is not in its folder; put all shards there")
    tensors: dict[str, Any] = {}
    for file in files:
        tensors |= _read_model(index.parent / file)
    return {name: tensors[name] for name in sorted(tensors)}  # as in a safetensors file: shards have no order


def _model(path: Path, value: Any) -> Tensors:
    """The model among the entries of a file, or the file itself."""
    entries = value if isinstance(value, Mapping) and not is_optimizer(value) else {}
    models = {name: entry for name, entry in entries.items() if is_model(entry) and not _is_extra(name)}
    if not models and is_model(entries):
        models = {"": entries}
    preferred = [name for name in _MODEL_ENTRIES if name in models]
    if len(models) > 1 and not preferred:
        raise ValueError(f"{path} has several models, {', '.join(map(repr, models))}; save one of them alone")
    for name in preferred or models:
        if is_plain(models[name]):
            return models[name]
    load_plain(path)  # raises what says which class is in the file
    raise TypeError(f"{path}: {_contents(value)} is not a model's state_dict; save model.state_dict()")


def _is_extra(name: Any) -> bool:
    """Whether an entry of a state_dict is what a module has added to it."""
    return str(name).rpartition(".")[2] == "_extra_state"


# The optimizers.


def _read_optimizers(path: Path) -> dict[str, OptimizerState]:
    if not path.is_dir():
        return _optimizers(path, load_parts(path))
    first = _first(path, _OPTIMIZER_FILES, "optimizer")
    files = [first, *sorted(path.glob(f"{first.stem}_[0-9]*{first.suffix}"))]  # accelerate's second has a number
    return {file.name + name: state for file in files for name, state in _optimizers(file, load_parts(file)).items()}


def _optimizers(path: Path, value: Any) -> dict[str, OptimizerState]:
    """The optimizers among the entries of a file, one by one or in lists, or the file itself."""
    states = {"": value} if is_optimizer(value) else {}
    for name, entry in value.items() if isinstance(value, Mapping) and not states else ():
        several = list(entry) if isinstance(entry, list | tuple) else []
        states |= {str(name): entry} if is_optimizer(entry) else {}
        states |= {f"{name}[{i}]": each for i, each in enumerate(several) if is_optimizer(each)}
    if not states or not is_plain(list(states.values())):
        load_plain(path)  # raises what says which class is in the file
        raise TypeError(f"{path}: {_contents(value)} is not an optimizer's state_dict; save optimizer.state_dict()")
    return states


def _contents(value: Any) -> str:
    """What is in a file, in words."""
    if not isinstance(value, Mapping) or not value:
        return type(value).__name__
    return f"{type(value).__name__} of {textwrap.shorten(', '.join(map(str, value)), 60, placeholder=' ...')}"

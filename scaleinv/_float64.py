"""Float64 on devices that have none, as Apple's GPUs."""

import torch
from torch import Tensor

WITHOUT = {"mps"}


def finest(device: torch.device) -> torch.dtype:
    """The finest format of a device: float64, or else float32."""
    return torch.float32 if device.type in WITHOUT else torch.float64


def in_float64(tensor: Tensor) -> Tensor:
    """The tensor in float64: on its device, or else on the CPU."""
    return tensor.to("cpu", torch.float64) if tensor.device.type in WITHOUT else tensor.double()

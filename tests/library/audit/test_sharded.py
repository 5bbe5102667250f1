"""Sharded parameters: each process computes the same as one process with whole ones."""

import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from scaleinv import audit
from scaleinv.book import models
from tests.library.audit.shared import MAKE

pytestmark = pytest.mark.usefixtures("one_thread")


def sharded_model(mesh=None):
    model = models.mlp(33, depth=2)
    if mesh is not None:
        for name, p in list(model.named_parameters()):
            owner, _, attribute = name.rpartition(".")
            place = Replicate() if name == "3.bias" else Shard(p.ndim - 1)
            setattr(model.get_submodule(owner), attribute, nn.Parameter(distribute_tensor(p.detach(), mesh, [place])))
    return model


def sharded_rows(name, mesh=None):
    """The rows before, with and after gradients, as frames."""
    model = sharded_model(mesh)
    whole = {key: p.clone() for key, p in sharded_model().named_parameters()}
    optimizer = MAKE[name](model.parameters())
    frames = [audit(model, optimizer).frame()]
    for step in range(2):
        for key, p in model.named_parameters():
            g = torch.randn(whole[key].shape, generator=torch.Generator().manual_seed(step)) * 1e-3
            p.grad = g if mesh is None else distribute_tensor(g, mesh, p.placements)
        result = audit(model, optimizer, max_norm=1e-2)
        frames.append(result.frame().assign(norm=result.gradient_norm))
        optimizer.step()
    optimizer.zero_grad()
    return [*frames, audit(model, optimizer).frame()]


SHARDED = ["AdamW", "SGD", "RMSprop"]


def sharded_process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,))
        torch.save({name: sharded_rows(name, mesh) for name in SHARDED}, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_sharded_parameters_give_the_same_numbers(tmp_path):
    # A forked process has everything imported already; where it cannot be trusted, as on macOS, a new one has not.
    start = "fork" if sys.platform == "linux" else "spawn"
    torch.multiprocessing.start_processes(sharded_process, (str(tmp_path),), nprocs=2, start_method=start)
    for rank in (0, 1):
        result = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        for name in SHARDED:
            for one, other in zip(result[name], sharded_rows(name), strict=True):
                numbers = one.select_dtypes("number").columns
                assert len(numbers) >= 13
                np.testing.assert_allclose(one[numbers], other[numbers], rtol=2e-5)
                words = one.columns.difference(numbers)
                assert one[words].equals(other[words])

"""Sharded parameters: each process computes the same as one process with whole ones."""

import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from packaging.version import Version
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


def give_gradients(model, step):
    """Those of the whole model, each sharded as its parameter is."""
    for p, whole in zip(model.parameters(), sharded_model().parameters(), strict=True):
        g = torch.randn(whole.shape, generator=torch.Generator().manual_seed(step)) * 1e-3
        p.grad = distribute_tensor(g, p.device_mesh, p.placements) if hasattr(p, "placements") else g


def sharded_rows(name, mesh=None):
    """The rows before, with and after gradients, as frames."""
    model = sharded_model(mesh)
    optimizer = MAKE[name](model.parameters())
    frames = [audit(model, optimizer).frame()]
    for step in range(2):
        give_gradients(model, step)
        result = audit(model, optimizer, max_norm=1e-2)
        frames.append(result.frame().assign(norm=result.gradient_norm))
        optimizer.step()
    optimizer.zero_grad()
    return [*frames, audit(model, optimizer).frame()]


def adafactor_rows(mesh=None):
    """The rows with gradients, and the relative step that follows: NaN where Adafactor cannot step sharded matrices.

    Newer versions of PyTorch refuse to; older ones, such as 2.9, take another step than for whole matrices.
    """
    model = sharded_model(mesh)
    give_gradients(model, 0)
    optimizer = MAKE["Adafactor"](model.parameters())
    frame = audit(model, optimizer).frame()
    before = [whole_of(p) for p in model.parameters()]
    try:
        optimizer.step()
    except RuntimeError:
        return frame.assign(step=np.nan)
    pairs = zip(model.parameters(), before, strict=True)
    return frame.assign(step=[((whole_of(p) - old).norm() / old.norm()).item() for p, old in pairs])


def whole_of(parameter):
    return (parameter.full_tensor() if hasattr(parameter, "placements") else parameter).detach().clone()


SHARDED = ["AdamW", "SGD", "RMSprop"]


def sharded_process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,))
        frames = {name: sharded_rows(name, mesh) for name in SHARDED}
        torch.save(frames | {"Adafactor": adafactor_rows(mesh)}, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_sharded_parameters_give_the_same_numbers(tmp_path):
    whole = {name: sharded_rows(name) for name in SHARDED}
    # Before the fork, which shares what torch imports on its first step; a fork cannot be trusted on macOS.
    start = "fork" if sys.platform == "linux" else "spawn"
    torch.multiprocessing.start_processes(sharded_process, (str(tmp_path),), nprocs=2, start_method=start)
    for rank in (0, 1):
        sharded = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        for name in SHARDED:
            for one, other in zip(sharded[name], whole[name], strict=True):
                numbers = one.select_dtypes("number").columns
                assert len(numbers) >= 13
                np.testing.assert_allclose(one[numbers], other[numbers], rtol=2e-5)
                words = one.columns.difference(numbers)
                assert one[words].equals(other[words])
        frame = sharded["Adafactor"]
        matrices = frame["shape"].map(len) > 1
        np.testing.assert_allclose(frame[matrices]["measured"], frame[matrices]["step"], rtol=2e-5)
        refused = (frame[matrices]["source"] == "").all()
        assert refused == frame[matrices]["measured"].isna().all()
        assert refused or Version(torch.__version__) < Version("2.13")
        np.testing.assert_allclose(frame["predicted"], adafactor_rows()["predicted"], rtol=2e-5)

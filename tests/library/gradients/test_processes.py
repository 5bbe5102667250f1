"""The mistake of the world size, in two processes of gloo: DDP averages what each of them computes."""

import os
import subprocess
import sys

import pytest
import torch

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")]

# Sequences of other lengths, half of them in each process.  A loss that is divided by the process's own number of
# tokens weighs them unequally; divided by the number of all, it is averaged over two processes, so half as large.
CODE = """
import copy
from datetime import timedelta
import torch, torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor
from scaleinv import compare_gradients

store = f"file://{folder}/store"
dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=100))
torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 20))
parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
x, lengths = torch.randint(20, (8, 16)), torch.tensor([16, 16, 16, 12, 4, 3, 2, 1])
y = torch.randint(20, (8, 16)).masked_fill(torch.arange(16) >= lengths[:, None], -100)
own = slice(4 * rank, 4 * rank + 4)
tokens = int((y != -100).sum())

def total(module, rows):
    return cross_entropy(module(x[rows]).mT, y[rows], reduction="sum")

whole = lambda: total(model, slice(None)) / tokens
steps = {
    "own tokens": lambda: total(parallel, own) / int((y[own] != -100).sum()),
    "all tokens": lambda: total(parallel, own) / tokens,
    "all tokens, times processes": lambda: 2 * total(parallel, own) / tokens,
}
results = {name: compare_gradients(whole, step, model, optimizer=torch.optim.AdamW) for name, step in steps.items()}
kinds = [(result.kind, result.noise) for result in results.values()]
mesh = init_device_mesh("cpu", (2,))
gradient = torch.arange(1.0, 13).view(4, 3)
sharded = distribute_tensor(3 * gradient, mesh, [Shard(0)])
partial = DTensor.from_local(gradient, mesh, [Partial()])
kinds += [compare_gradients({"w": gradient}, {"w": each}).factor for each in (sharded, partial)]

shards = fully_shard(copy.deepcopy(model), mesh=mesh)

def of_plain():
    model.zero_grad()
    whole().backward()
    return model

kinds.append(compare_gradients(of_plain, lambda: total(shards, own) / tokens, shards).factor)
dist.destroy_process_group()
"""
OTHER = "import sys; folder, rank = sys.argv[1], 1; exec(sys.argv[2]); print(kinds)"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What this process has found, as the first of the two, and what the second has printed."""
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", OTHER, folder, CODE]
    names = {"folder": folder, "rank": 0}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as second:
        with torch.random.fork_rng():
            exec(CODE, names)
        printed, _ = second.communicate(timeout=100)
    assert second.returncode == 0
    return names["results"], names["kinds"], printed


def test_the_world_size_mistake_and_unequal_weights(outcome):
    own, half, right = outcome[0].values()
    assert own.kind == "unequal" and "examples are weighted unequally" in str(own)
    assert (half.kind, half.factor) == ("factor", 0.5) and "b divides by 2 once more than a" in str(half)
    assert "AdamW does not see it but for eps and max_norm" in str(half)
    assert right.kind == "equal"


def test_both_processes_come_to_the_same_verdicts(outcome):
    _, kinds, printed = outcome
    assert printed.strip() == str(kinds)
    assert kinds[:3] == [("unequal", 0.0), ("factor", 0.0), ("equal", 0.0)]


def test_gradients_in_shards_are_put_together(outcome):
    """Three times as large in shards by rows; terms of a sum over two processes, twice; FSDP 2 averages as DDP does."""
    assert outcome[1][3:] == [3.0, 2.0, 0.5]

"""The bound on memory."""

import math
import os

import pytest
from runs import Inline, identical, in_a_process, least_memory, swept

pytestmark = pytest.mark.usefixtures("one_thread")


MEASURE = """
import gc
import noise
from scaleinv import optimizers, sweep

def resident(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024

def peak(memory, **grid):  # above what the process has before
    gc.collect()
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    sweep(noise.model, optimizers.adam, noise.batches(2), grid, memory=memory, progress=False)
    return resident("VmHWM") - before

members = [1e-4 * n for n in range(1, 33)]
peak(2**30, lr=[1e-4, 1e-3], width=2000)
print(peak(2**26, lr=members, width=2000, weight=8.0), peak(2**26, lr=members, width=[1000, 2000]))
print(peak(2**40, lr=members, width=2000))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="reads the peak of resident memory from /proc")
def test_the_memory_in_use_stays_below_the_bound_and_no_progress_is_no_bar():
    """Adam on 150 000 parameters, of 32 or 64 members.  Slack: 8 MiB, for what Python and torch keep."""
    with in_a_process(MEASURE) as process:
        shown, errors = process.communicate()
    *bounded, free = (int(number) / 2**20 for number in shown.split())
    assert max(bounded) < 64 + 8 and free > 160, (bounded, free)
    assert errors == ""


def test_too_small_a_bound_is_refused_with_the_bytes_that_it_takes(threads):
    for number in (1, 2):
        threads(number)
        need = least_memory()
        assert identical(swept(memory=need), swept())
        with pytest.raises(ValueError, match=rf"memory={need - 1000} .*{need:,}"):
            swept(memory=need - 1000)
    inline = Inline()
    assert least_memory(executor=inline) < need and not inline.jobs  # the bound is for each of its workers


def test_no_bound_is_infinite():
    assert identical(swept(memory=math.inf), swept())

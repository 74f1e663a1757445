"""Real processes of a gloo group, forked from the test."""

import datetime
import importlib
import os
import traceback

import torch


def run_ranks(size, function, folder, *arguments, timeout=60, dead=()):
    """Returns [function(rank, *arguments) for each rank], each in a process of its own.

    Args:
        timeout: Of the group, in seconds.
        dead: Ranks that kill themselves, whose answer is None.
    """
    importlib.import_module("torch._dynamo")  # else each rank would, for its first update()
    context = torch.multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    store = folder / f"store-{len(list(folder.iterdir()))}"
    processes = [
        context.Process(
            target=_run, args=(rank, size, store, timeout, answers, function, arguments)
        )
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    try:
        found = dict(answers.get() for _ in range(size - len(dead)))
        for process in processes:
            process.join(60)
    finally:
        for process in processes:  # where the test was ended by its limit
            process.kill()
    failed = [error for _, error in found.values() if error]
    assert not failed, "\n".join(failed)
    found |= {rank: (None, None) for rank in dead}
    return [found[rank][0] for rank in range(size)]


def _run(rank, size, store, timeout, answers, function, arguments):
    torch.set_num_threads(1)
    # A rank that had all it needs and left before the others have come would fail them.
    os.environ["TORCH_DIST_INIT_BARRIER"] = "1"
    try:
        torch.distributed.init_process_group(
            "gloo",
            store=torch.distributed.FileStore(str(store), size),
            rank=rank,
            world_size=size,
            timeout=datetime.timedelta(seconds=timeout),
        )
        answers.put((rank, (function(rank, *arguments), None)))
        torch.distributed.destroy_process_group()
    except BaseException:
        answers.put((rank, (None, traceback.format_exc())))

"""Ranks that are threads of this process: what the engine needs of a process group, and no more."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np


class VirtualRanks:
    """One of `size` ranks; those of one group share a board, a barrier and a count of bytes."""

    def __init__(self, rank, size, group):
        self.rank = self.process = rank
        self.size = self.processes = size
        self.group = group

    def gather(self, values, what):
        return [part.copy() for part in self._meet(values, what)]

    def sum(self, counts, what):
        return np.sum(self._meet(counts, what), axis=0, dtype=np.int64)

    def _meet(self, values, what):
        group = self.group
        group.board[self.process] = (what, values.dtype, values)
        group.barrier.wait()
        board = list(group.board)
        group.barrier.wait()
        assert len({entry[:2] for entry in board}) == 1, board  # the same call, of one dtype
        if self.process == 0:
            group.calls.append((what, sum(entry[2].nbytes for entry in board)))
        return [entry[2] for entry in board]


class Group:
    def __init__(self, size):
        self.board = [None] * size
        self.barrier = threading.Barrier(size, timeout=120)
        self.calls = []  # (what, bytes sent by all)


def on_ranks(size, function, *, share=None):
    """Returns [function(ranks of rank r) for r in 0..size-1], each in a thread, and the group.

    Args:
        share: Maps a process to its rank; by default each has its own.
    """
    group = Group(size)

    def run(process):
        ranks = VirtualRanks(process, size, group)
        if share is not None:
            ranks.rank, ranks.size = share[process], max(share) + 1
        try:
            return function(ranks)
        except BaseException:
            group.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as executor:
        futures = [executor.submit(run, process) for process in range(size)]
        results, errors = [], []
        for future in futures:
            error = future.exception()
            errors.append(error)
            results.append(None if error else future.result())
    real = [e for e in errors if e is not None and not isinstance(e, threading.BrokenBarrierError)]
    if real:
        raise real[0]
    return results, group

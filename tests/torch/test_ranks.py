"""Several processes are refused until they are supported: never each for itself, in silence."""

import re

import pytest
import torch

import seta


def _rank(rank, size, store, answers):
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(store, size), rank=rank, world_size=size
    )
    try:
        answers.put(str(len(seta.PrunedDataLoader(range(6), "SeTa", epochs=2))))
    except NotImplementedError as error:
        answers.put(str(error))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("size", "answer"), [(1, "[1-6]$"), (2, "PrunedDataLoader works in one process, and .* has 2")]
)
def test_one_process_of_a_group_works_and_several_are_refused(size, answer, tmp_path):
    context = torch.multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    ranks = [
        context.Process(target=_rank, args=(rank, size, str(tmp_path / "store"), answers))
        for rank in range(size)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
        assert re.match(answer, answers.get())

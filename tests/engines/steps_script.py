"""A loop by steps under DDP, saved in mid-pass and gone on with, for `test_steps`: FOLDER."""

import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

import seta

N, BLOCK, BATCH = 100, 4, 5
STEPS, ACCUMULATION, SAVE_AT = 24, 2, 13


class Chunks(torch.utils.data.Dataset):
    """Chunk i is i, BLOCK times."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return torch.full((BLOCK,), index), torch.full((BLOCK,), index)


def loader_of(policy="SeTa", **options):
    return seta.PrunedDataLoader(
        Chunks(), policy, **{"steps": 120, "budget": 0.6, "batch_size": BATCH, **options}
    )


def endless(loader):
    while loader.pruner.next_epoch < loader.epochs:
        yield from loader


def loss_of(samples, step):
    return ((samples * 37 % N + 1) / (step + 1)).float()


def train(folder, name, state=None):
    torch.manual_seed(0)
    model = DistributedDataParallel(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loader = loader_of(steps=STEPS * ACCUMULATION)
    parts, step, seen = {"model": model, "optimizer": optimizer, "loader": loader}, 0, []
    rank = torch.distributed.get_rank()
    if state is not None:
        for part in parts:
            parts[part].load_state_dict(state[part])
        step = state["step"]
    batches = endless(loader)
    inputs, _ = next(batches)
    while step < STEPS:
        if step == SAVE_AT and state is None:
            states = {part: parts[part].state_dict() for part in parts}  # on both
            if rank == 0:
                torch.save({**states, "step": step}, folder / "checkpoint.pt")
        for micro in range(ACCUMULATION):
            model.require_backward_grad_sync = micro == ACCUMULATION - 1
            seen.append(inputs[:, 0].tolist())
            known = loss_of(inputs[:, 0], step)
            output = model(inputs[:, :1] / N).squeeze(1)
            loss = loader.update(known + (output - output.detach()))
            inputs, _ = next(batches, (None, None))
            (loss / ACCUMULATION).backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1
    result = {"seen": seen, "losses": torch.from_numpy(loader.pruner.losses)}
    torch.save({**result, "model": model.state_dict()}, folder / f"{name}-{rank}.pt")


def main(folder):
    torch.distributed.init_process_group("gloo")
    train(folder, "whole")
    torch.distributed.barrier()
    train(folder, "again", torch.load(folder / "checkpoint.pt", weights_only=True))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

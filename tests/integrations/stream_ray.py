"""A process with a Ray of its own, for `test_streams_ray`: writes a line for each case."""

from functools import partial

import ray.data
import torch

from seta.integrations.streams import KeepSet, PrunedStream


def stream_of(source, **options):
    keep = KeepSet("id", n=40)
    return PrunedStream(source, "Random", keep=keep, epochs=1, budget=0.5, batch_size=5, **options)


def main():
    torch.set_num_threads(1)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    data = ray.data.range(40)
    for name, source in {
        "iterator": data.iterator().iter_rows,
        "dataset": data.iter_rows,
        "partial": partial(data.iter_rows),
        "function": lambda: data.iter_rows(),
    }.items():
        try:
            next(iter(stream_of(source, num_workers=1, timeout=20)))
        except (ValueError, RuntimeError) as error:
            print(f"{name}: {type(error).__name__}", str(error).replace("\n", " "))
    stream = stream_of(data.iter_rows)
    for batch in stream:
        stream.update(batch["id"].float())
    print("trained:", stream.pruner.history[0]["trained"])
    ray.shutdown()


if __name__ == "__main__":
    main()

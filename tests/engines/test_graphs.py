"""PyTorch Geometric: datasets of graphs, whose nodes hold the graph's number, and seed nodes."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.nn.parallel import DistributedDataParallel

import seta
from tests.engines.pages import run_page
from tests.torch.processes import run_ranks

pytest.importorskip("torch_geometric")
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.loader import (
    DataLoader,
    DynamicBatchSampler,
    ImbalancedSampler,
    NeighborLoader,
)
from torch_geometric.nn import GCNConv, global_mean_pool
from torch_geometric.sampler import BaseSampler, SamplerOutput
from torch_geometric.utils import scatter

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

N, BATCH = 60, 6


def graph(number):
    """A ring of 3 to 7 nodes, each of which holds the number."""
    nodes = 3 + number % 5
    ring = torch.stack([torch.arange(nodes), (torch.arange(nodes) + 1) % nodes])
    x = torch.full((nodes, 1), float(number))
    labels = (torch.arange(nodes) + number) % 2
    return Data(x=x, edge_index=ring, y=number % 2, y_node=labels, index=number)


class Rings(InMemoryDataset):
    """The rings of some numbers, as PyG stores them: in one piece."""

    def __init__(self, numbers):
        super().__init__()
        self.data, self.slices = self.collate([graph(number) for number in numbers])


FORMS = {
    "a dataset": lambda: Rings(range(N)),
    "a part of one": lambda: Rings(range(-20, N + 10))[20 : N + 20],
    "places in one": lambda: Rings(range(N)[::-1])[list(range(N))[::-1]],
    "a list": lambda: [graph(number) for number in range(N)],
}


def loader_of(dataset, policy="SeTa", workers=0, **options):
    stock = DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=workers)
    options = {"epochs": 5, "budget": 0.6, **options}
    return seta.PrunedDataLoader.from_loader(stock, policy, **options)


def numbers_of(data):
    return global_mean_pool(data.x, data.batch)[:, 0].round().long()


def loss_of(numbers, epoch):
    return ((numbers * 37 % N + 1) / (epoch + 1)).float()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("form", FORMS)
def test_every_loss_reaches_its_graph(form, workers):
    dataset = FORMS[form]()
    loader = loader_of(dataset, workers=workers)
    expected = np.full(N, np.nan, np.float32)
    for epoch in range(5):
        for data in loader:
            numbers = numbers_of(data)
            assert data.num_graphs == len(numbers.unique()) == BATCH
            expected[numbers] = loss_of(numbers, epoch)
            loader.update(loss_of(numbers, epoch))
        for _ in DataLoader(dataset, batch_size=N):
            pass
    np.testing.assert_array_equal(loader.pruner.losses, expected)
    assert [row["trained"] for row in loader.pruner.history] == [36] * 5


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = GCNConv(1, 8), torch.nn.Linear(8, 2)

    def forward(self, data):
        hidden = self.conv(data.x / N, data.edge_index).relu()
        hidden = torch.nn.functional.dropout(hidden, 0.2, self.training)
        return self.out(global_mean_pool(hidden, data.batch)), self.out(hidden)


class Run:
    """A real training, which keeps the latest loss of each graph by what the graph holds."""

    def __init__(self, workers=0):
        torch.manual_seed(0)
        self.model = Net()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.loader = loader_of(Rings(range(N)), "InfoBatch", workers)
        self.expected = torch.full((N,), torch.nan)

    def parts(self):
        return {"model": self.model, "optimizer": self.optimizer, "loader": self.loader}

    def train(self, save_at=None, path=None):
        step = 0
        while self.loader.pruner.next_epoch < 5:
            for data in self.loader:
                losses = cross_entropy(self.model(data)[0], data.y, reduction="none")
                self.expected[numbers_of(data)] = losses.detach()
                loss = self.loader.update(losses)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                step += 1
                if step == save_at:
                    state = {name: part.state_dict() for name, part in self.parts().items()}
                    state |= {"random": torch.get_rng_state(), "expected": self.expected.clone()}
                    torch.save(state, path)
        return self

    def load(self, path):
        state = torch.load(path, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        self.expected = state["expected"]
        return self


def test_a_network_trains_and_goes_on_in_mid_epoch_to_the_same_end(tmp_path):
    whole = Run().train(save_at=14, path=tmp_path / "state.pt")  # 6 batches an epoch
    np.testing.assert_array_equal(whole.loader.pruner.losses, whole.expected)
    again = Run(workers=2).load(tmp_path / "state.pt").train()
    np.testing.assert_array_equal(again.loader.pruner.losses, whole.expected)
    assert all(map(torch.equal, again.model.parameters(), whole.model.parameters()))


def test_losses_of_nodes_become_one_per_graph_and_the_mean_over_all_nodes():
    dataset, model = Rings(range(N)), Net().eval()
    loader = loader_of(dataset, "Full", epochs=1, budget=None)
    for data in loader:
        of_nodes = cross_entropy(model(data)[1], data.y_node, reduction="none")
        losses = scatter(of_nodes, data.batch, dim_size=data.num_graphs, reduce="mean")
        loss = loader.update(losses, counts=data.ptr.diff())
        torch.testing.assert_close(loss, of_nodes.mean())
    for number in range(N):
        alone = next(iter(DataLoader([dataset[number]])))
        loss = cross_entropy(model(alone)[1], alone.y_node)
        assert loader.pruner.losses[number] == pytest.approx(loss.item(), rel=1e-5)


def test_tasks_without_a_label_count_for_nothing():
    out = torch.zeros(BATCH, 3, requires_grad=True)
    y = torch.tensor([[1.0, torch.nan, 0.0]] * 5 + [[torch.nan] * 3])
    loader = loader_of(Rings(range(N)))
    next(iter(loader))
    losses = binary_cross_entropy_with_logits(out, y.nan_to_num(), reduction="none")
    loader.update(losses, mask=~y.isnan()).backward()
    assert out.grad.isfinite().all()
    assert (out.grad[y.isnan()] == 0).all()
    recorded = loader.pruner.losses[loader.pruner.selection.indices[:BATCH]]
    np.testing.assert_allclose(recorded, [np.log(2)] * 5 + [0], rtol=1e-6)


class Neighbors(BaseSampler):
    """Draws at most two neighbours of each seed: pyg-lib, which does it for PyG, is no package."""

    edge_permutation = None

    def __init__(self, data):
        self.edge_index = data.edge_index

    def sample_from_nodes(self, index, **_):
        places = {node: place for place, node in enumerate(index.node.tolist())}
        rows, cols, edges = [], [], []
        for seed in index.node.tolist():
            into = (self.edge_index[1] == seed).nonzero()[:, 0]
            for edge in into[torch.randperm(len(into))[:2]].tolist():
                source = int(self.edge_index[0, edge])
                rows.append(places.setdefault(source, len(places)))
                cols.append(places[seed])
                edges.append(edge)
        parts = [torch.tensor(part) for part in (list(places), rows, cols, edges)]
        return SamplerOutput(*parts, metadata=(index.input_id, index.time))

    def sample_from_edges(self, *_, **__):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("workers", "in_worker", "mask"), [(0, None, True), (2, None, False), (2, False, True)]
)
def test_every_loss_reaches_its_seed_node(workers, in_worker, mask):
    nodes = 2 * N
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(0, nodes, (2, 6 * nodes), generator=generator)
    data = Data(x=torch.arange(float(nodes))[:, None], edge_index=edges)
    odd = torch.arange(nodes) % 2 == 1  # seed s is node 2 s + 1
    neighbors = NeighborLoader(
        data,
        num_neighbors=[2],
        input_nodes=odd if mask else odd.nonzero()[:, 0],
        batch_size=BATCH,
        shuffle=True,
        neighbor_sampler=Neighbors(data),
        filter_per_worker=in_worker,
        num_workers=workers,
    )
    loader = seta.PrunedDataLoader.from_loader(
        neighbors, "SeTa", collate_fn=neighbors, epochs=4, budget=0.6
    )
    conv = GCNConv(1, 1)
    expected = np.full(N, np.nan, np.float32)
    for epoch in range(4):
        for batch in loader:
            assert batch.batch_size == BATCH < batch.num_nodes
            assert conv(batch.x, batch.edge_index)[: batch.batch_size].isfinite().all()
            seeds = (batch.x[: batch.batch_size, 0].long() - 1) // 2
            assert torch.equal(batch.input_id, 2 * seeds + 1 if mask else seeds)
            expected[seeds] = loss_of(seeds, epoch)
            loader.update(loss_of(seeds, epoch))
    np.testing.assert_array_equal(loader.pruner.losses, expected)


def test_an_attribute_with_index_in_its_name_is_no_number_of_a_graph():
    stock = DataLoader([graph(number) for number in range(N)], batch_size=BATCH)
    assert next(iter(stock)).index.tolist() == [0, 4, 9, 15, 22, 30]  # nodes before are added
    loader = seta.PrunedDataLoader.from_loader(stock, "Full", epochs=1, with_indices=True)
    with pytest.raises(IndexError, match="indices must lie in 0..59"):
        for _, data in loader:
            loader.update(torch.ones(BATCH), indices=data.index)


def test_a_pass_for_an_evaluation_is_refused():
    loader = loader_of(Rings(range(N)))
    with pytest.raises(RuntimeError, match="none of the 6 batches of epoch 0 was answered"):
        for _ in loader:
            pass


def test_losses_of_nodes_are_refused_where_those_of_graphs_belong():
    loader = loader_of(Rings(range(N)))
    data = next(iter(loader))
    with pytest.raises(ValueError, match="one entry for each sample of the batch"):
        loader.update(torch.ones(data.num_nodes))


@pytest.mark.parametrize(
    "options",
    [
        lambda dataset: {"sampler": ImbalancedSampler(dataset), "batch_size": BATCH},
        lambda dataset: {"batch_sampler": DynamicBatchSampler(dataset, 40)},
    ],
)
def test_samplers_that_select_are_refused(options):
    dataset = Rings(range(N))
    stock = DataLoader(dataset, **options(dataset))
    with pytest.raises(ValueError, match="loader must"):
        seta.PrunedDataLoader.from_loader(stock, "SeTa", epochs=5)


def rank(_):
    torch.manual_seed(0)
    model = DistributedDataParallel(Net())
    dataset = Rings(range(N))
    sampler = torch.utils.data.DistributedSampler(dataset)
    stock = DataLoader(dataset, batch_size=BATCH // 2, sampler=sampler)
    loader = seta.PrunedDataLoader.from_loader(stock, "SeTa", epochs=5, budget=0.6)
    seen = []
    for epoch in range(5):
        for data in loader:
            numbers = numbers_of(data)
            seen.append((epoch, numbers.tolist()))
            model(data)[0].sum().backward()
            loader.update(loss_of(numbers, epoch))
    return seen, loader.pruner.losses


@pytest.mark.processes
def test_two_processes_train_disjoint_graphs(tmp_path):
    (first, losses), (second, others) = run_ranks(2, rank, tmp_path)
    np.testing.assert_array_equal(losses, others)
    expected = np.full(N, np.nan, np.float32)
    for epoch in range(5):
        trained = [n for at, numbers in first + second if at == epoch for n in numbers]
        assert len(trained) == len(set(trained)) == 36
        expected[trained] = loss_of(torch.tensor(trained), epoch)
    np.testing.assert_array_equal(losses, expected)


def test_the_page_runs(tmp_path):
    run_page("graphs", tmp_path)

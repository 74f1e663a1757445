"""Targets of any size, and the loss of each image, where pixels hold the image's number."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate
from torch.nn.parallel import DistributedDataParallel

import seta
from tests.engines import vision_operators  # noqa: F401
from tests.engines.pages import PAGES, run_page
from tests.torch.processes import run_ranks

pytest.importorskip("transformers")
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    TrainingArguments,
    YolosConfig,
    YolosForObjectDetection,
)

from seta.integrations.transformers import PrunedTrainer, PruningArguments

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:.*pin_memory:UserWarning"),
]

N, BATCH, SIZE = 40, 4, 8


def picture(number, size=(SIZE, SIZE)):
    return torch.full((3, *size), number / N)


def pixels(number):
    """Labels of a picture: some of its pixels have none, and of every tenth picture none has."""
    generator = torch.Generator().manual_seed(number)
    labels = torch.randint(0, 2, (SIZE, SIZE), generator=generator)
    labels[: number % SIZE] = 255
    if number % 10 == 0:
        labels[:] = 255
    return labels


class Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return N

    def __getitem__(self, number):
        return picture(number), pixels(number)


def numbers_of(pictures):
    return torch.stack([(one[0, 0, 0] * N).round().long() for one in pictures])


def exactly(alone):
    """Returns the losses of all pictures, each computed on its own: (N,)."""
    with torch.no_grad():
        return np.array([float(alone(number)) for number in range(N)], np.float32)


# Segmentation in a loop of torch.


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loss_of_a_picture_is_the_mean_over_its_labelled_pixels(workers):
    torch.manual_seed(0)
    model = nn.Conv2d(3, 2, 1)
    loader = seta.PrunedDataLoader(
        Pictures(), "Full", epochs=1, batch_size=BATCH, num_workers=workers
    )
    for inputs, labels in loader:
        out, counted = model(inputs), labels != 255
        losses = cross_entropy(out, labels, ignore_index=255, reduction="none")
        loss = loader.update(losses, mask=counted, counts=counted.flatten(1).sum(1))
        torch.testing.assert_close(loss, cross_entropy(out, labels, ignore_index=255))

    def alone(number):
        if number % 10 == 0:
            return 0  # has no labelled pixel
        out = model(picture(number)[None])
        return cross_entropy(out, pixels(number)[None], ignore_index=255)

    np.testing.assert_allclose(loader.pruner.losses, exactly(alone), rtol=1e-5)


def test_a_batch_without_a_labelled_pixel_has_a_gradient_of_zero():
    model = nn.Conv2d(3, 2, 1)
    dataset = [Pictures()[0] for _ in range(BATCH)]
    loader = seta.PrunedDataLoader(dataset, "Full", epochs=1, batch_size=BATCH)
    inputs, labels = next(iter(loader))
    losses = cross_entropy(model(inputs), labels, ignore_index=255, reduction="none")
    counted = labels != 255
    loss = loader.update(losses, mask=counted, counts=counted.flatten(1).sum(1))
    loss.backward()
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in model.parameters())
    assert cross_entropy(model(inputs), labels, ignore_index=255).isnan()  # the stock loss


def test_an_empty_crop_leaves_the_earlier_loss_of_its_picture():
    loader = seta.PrunedDataLoader(
        Pictures(),
        "Full",
        epochs=1,
        batch_size=5,
        shuffle=False,
        losses=np.full(N, 7.0),
        with_indices=True,
    )
    for indices, (inputs, labels) in loader:
        counted = (labels != 255) & (inputs[:, 0] < 0.8)  # as if the others were cropped away
        losses = inputs[:, 0] + 1
        filled = counted.flatten(1).any(1)
        if filled.any():
            loader.update(losses[filled], indices=indices[filled], mask=counted[filled])
        else:
            loader.skip()
    expected = np.where((np.arange(N) % 10 == 0) | (np.arange(N) >= 32), 7, np.arange(N) / N + 1)
    np.testing.assert_allclose(loader.pruner.losses, expected, rtol=1e-6)


# In the Trainer of transformers; a rate of 0 keeps the losses known.


def randomised(model):
    """Returns it with weights that tell one picture from another."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def trainer_of(model, rows, folder, policy, epochs=1, **pruning):
    arguments = TrainingArguments(
        str(folder),
        num_train_epochs=epochs,
        learning_rate=0.0,
        per_device_train_batch_size=BATCH,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        save_strategy="no",
        disable_tqdm=True,
        report_to=[],
        use_cpu=True,
    )
    return PrunedTrainer(
        model, arguments, train_dataset=rows, pruning=PruningArguments(policy, **pruning)
    )


def pixel_losses(outputs, batch):
    labels = batch["labels"]
    size = labels.shape[-2:]
    logits = interpolate(outputs["logits"], size, mode="bilinear", align_corners=False)
    return cross_entropy(logits, labels, ignore_index=255, reduction="none"), labels != 255


def test_segformer_records_the_loss_of_each_picture(tmp_path):
    torch.manual_seed(0)
    config = SegformerConfig(
        num_encoder_blocks=1,
        depths=[1],
        hidden_sizes=[8],
        sr_ratios=[1],
        strides=[2],
        patch_sizes=[3],
        num_attention_heads=[1],
        mlp_ratios=[2],
        decoder_hidden_size=8,
        classifier_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
        drop_path_rate=0.0,
        num_labels=2,
    )
    model = randomised(SegformerForSemanticSegmentation(config))
    model.decode_head.batch_norm = nn.Identity()  # the only part that sees a whole batch
    rows = [{"pixel_values": picture(n), "labels": pixels(n)} for n in range(N)]
    trainer = trainer_of(
        model, rows, tmp_path, "InfoBatch", 2, budget=[1, 0.6], sample_losses=pixel_losses
    )
    trainer.train()

    def alone(number):
        if number % 10 == 0:
            return 0
        return model(pixel_values=picture(number)[None], labels=pixels(number)[None]).loss

    expected = exactly(alone)
    assert len(set(expected.round(6))) > N / 2
    np.testing.assert_allclose(trainer.pruner.losses, expected, rtol=1e-4)
    assert [row["trained"] for row in trainer.pruner.history] == [40, 24]


# Detection.


def page_code(name):
    """Returns the `py` block of the page that defines a name."""
    text = (PAGES / "segmentation-and-detection.md").read_text()
    blocks = re.findall(r"```py\n(.*?)```", text, re.DOTALL)
    return next(block for block in blocks if f"def {name}(" in block)


def boxes(number):
    """0 to 3 boxes, in pixels."""
    corner = torch.arange(number % 4)[:, None] + torch.tensor([[number / N, 1.0]])
    return torch.cat([corner, corner + 3], 1)


class Scenes(torch.utils.data.Dataset):
    """Pictures of different sizes with targets of different lengths."""

    def __len__(self):
        return N

    def __getitem__(self, number):
        target = {"boxes": boxes(number), "labels": torch.arange(number % 4) % 3 + 1}
        return picture(number, (SIZE + number % 3, SIZE + number % 5)), target


def collate(rows):
    return tuple(zip(*rows, strict=True))


class Detector(nn.Module):
    """The interface of torchvision's detectors: a dict of losses, means over the batch."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Linear(4, 4)

    def forward(self, images, targets):
        losses = {"loss_classifier": 0, "loss_box_reg": 0}
        for image, target in zip(images, targets, strict=True):
            out = self.head(self.backbone(image[None]))
            losses["loss_classifier"] += out.logsumexp(1).mean() / len(images)
            if len(target["boxes"]):
                gap = (out - target["boxes"]).abs().mean()
                losses["loss_box_reg"] += gap / len(images)
        return losses


def of_images(model, images, targets):
    pairs = zip(images, targets, strict=True)
    return torch.stack([sum(model([image], [target]).values()) for image, target in pairs])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_detector_records_the_loss_of_each_image(workers):
    torch.manual_seed(0)
    model = Detector()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = seta.PrunedDataLoader(
        Scenes(), "SeTa", epochs=4, budget=0.6, batch_size=BATCH, collate_fn=collate,
        num_workers=workers,
    )  # fmt: skip
    expected = torch.full((N,), torch.nan)
    for _ in range(4):
        for images, targets in loader:
            losses = of_images(model, images, targets)
            numbers = numbers_of(images)
            for number, target in zip(numbers, targets, strict=True):
                assert torch.equal(target["boxes"], boxes(number))
            expected[numbers] = losses.detach()
            loss = loader.update(losses)
            torch.testing.assert_close(loss, sum(model(images, targets).values()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    np.testing.assert_array_equal(loader.pruner.losses, expected)
    assert [row["trained"] for row in loader.pruner.history] == [24] * 4


def test_a_resume_in_mid_epoch_trains_the_rest_of_the_images(tmp_path):
    torch.manual_seed(0)
    model = Detector()

    def train(loader, save_at=None):
        seen = []
        while loader.pruner.next_epoch < 3:
            for images, targets in loader:
                loader.update(of_images(model, images, targets))
                seen.append(numbers_of(images).tolist())
                if len(seen) == save_at:
                    torch.save(loader.state_dict(), tmp_path / "state.pt")
        return seen

    def loader_of(workers):
        return seta.PrunedDataLoader(
            Scenes(), "SeTa", epochs=3, budget=0.6, batch_size=BATCH, collate_fn=collate,
            num_workers=workers,
        )  # fmt: skip

    whole, again = loader_of(0), loader_of(2)
    seen = train(whole, save_at=9)  # 6 batches an epoch
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert train(again) == seen[9:]
    np.testing.assert_array_equal(again.pruner.losses, whole.pruner.losses)


def test_image_by_image_with_a_backward_each_takes_the_same_steps():
    ends = []
    for split in (False, True):
        torch.manual_seed(0)
        model = Detector()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loader = seta.PrunedDataLoader(
            Scenes(), "InfoBatch", epochs=3, budget=0.6, batch_size=BATCH, collate_fn=collate,
            with_indices=True,
        )  # fmt: skip
        for _ in range(3):
            for indices, (images, targets) in loader:
                optimizer.zero_grad()
                if split:
                    for index, image, target in zip(indices, images, targets, strict=True):
                        loss = sum(model([image], [target]).values())
                        loss = loader.update(loss[None], indices=index[None])
                        (loss / len(images)).backward()
                else:
                    loader.update(of_images(model, images, targets), indices=indices).backward()
                optimizer.step()
        ends.append((nn.utils.parameters_to_vector(model.parameters()), loader.pruner.losses))
    torch.testing.assert_close(ends[0][0], ends[1][0])
    np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-5)


def rank(number):
    torch.manual_seed(0)
    model = DistributedDataParallel(Detector())
    loader = seta.PrunedDataLoader(
        Scenes(), "SeTa", epochs=2, budget=0.6, batch_size=2, collate_fn=collate
    )
    for _ in range(2):
        for images, targets in loader:
            model.zero_grad()
            loader.update(of_images(model, images, targets)).backward()
    return model.module.head.weight.grad.numpy(), numbers_of(images).tolist()


@pytest.mark.processes
def test_two_processes_with_several_forward_passes_share_their_gradients(tmp_path):
    (gradient, first), (other, second) = run_ranks(2, rank, tmp_path)
    np.testing.assert_array_equal(gradient, other)
    torch.manual_seed(0)
    model = Detector()
    scenes = [Scenes()[number] for number in (*first, *second)]
    of_images(model, *collate(scenes)).mean().backward()
    np.testing.assert_allclose(gradient, model.head.weight.grad, rtol=1e-5)


def greedily(boxes, scores, threshold):
    """Stands for `nms`, whose compiled part does not fit every torch."""
    overlaps = torchvision_boxes().box_iou(boxes, boxes)
    kept, gone = [], torch.zeros(len(boxes), dtype=torch.bool)
    for at in scores.argsort(descending=True).tolist():
        if not gone[at]:
            kept.append(at)
            gone |= overlaps[at] > threshold
    return torch.tensor(kept, dtype=torch.int64)


def torchvision_boxes():
    pytest.importorskip("torchvision")
    from torchvision.ops import boxes as module

    return module


def small(detector):
    """A detector of torchvision over one map of features, in training mode."""
    from torchvision.models import detection
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 32, 3, stride=4, padding=1), nn.ReLU())
    backbone.out_channels = 32
    if detector == "FCOS":
        options = {"anchor_generator": AnchorGenerator(((8,),), ((1.0,),))}
    else:
        anchors = AnchorGenerator(((16, 32),), ((0.5, 1.0, 2.0),))
        name = "rpn_anchor_generator" if detector == "FasterRCNN" else "anchor_generator"
        options = {name: anchors}
    if detector == "FasterRCNN":
        options["box_roi_pool"] = MultiScaleRoIAlign(["0"], 3, 2)
        options |= {"rpn_pre_nms_top_n_train": 100, "rpn_post_nms_top_n_train": 50}
        options["box_batch_size_per_image"] = 16  # of these 50, for each image
    model = getattr(detection, detector)(backbone, 3, min_size=64, max_size=64, **options)
    return model.train()


def some_scenes():
    corners = [[5.0, 5.0, 30.0, 30.0], [20.0, 20.0, 50.0, 60.0]]
    targets = [
        {"boxes": torch.tensor(corners)[:count], "labels": torch.tensor([1, 2])[:count]}
        for count in (2, 1, 0, 2)
    ]
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, 64, 64, generator=generator) for _ in targets], targets


@pytest.mark.parametrize(("detector", "same"), [("RetinaNet", True), ("FCOS", False)])
def test_whether_the_mean_over_images_is_the_stock_loss_of_a_detector(detector, same):
    torchvision_boxes()
    model = small(detector)
    images, targets = some_scenes()
    stock, ours = sum(model(images, targets).values()), of_images(model, images, targets).mean()
    assert (abs(stock - ours) < 1e-5 * stock) == same


def test_an_r_cnn_gives_its_losses_by_image_with_one_pass_of_its_backbone(monkeypatch):
    monkeypatch.setattr(torchvision_boxes(), "nms", greedily)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # of `roi_align`
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))  # the same draws
    names = {"torch": torch}
    exec(page_code("losses_by_image"), names)
    model, passes = small("FasterRCNN"), []
    model.backbone.register_forward_hook(lambda *call: passes.append(len(call[1][0])))
    images, targets = some_scenes()
    losses = names["losses_by_image"](model, images, targets)
    assert passes == [4]
    torch.testing.assert_close(losses, of_images(model, images, targets))
    torch.testing.assert_close(losses.mean(), sum(model(images, targets).values()))
    assert len(losses.unique()) == 4


def test_losses_that_are_reduced_already_are_refused():
    loader = seta.PrunedDataLoader(Scenes(), "SeTa", epochs=1, batch_size=4, collate_fn=collate)
    images, targets = next(iter(loader))
    with pytest.raises(ValueError, match="losses is a scalar, already reduced"):
        loader.update(sum(Detector()(images, targets).values()))


def test_yolos_ranks_images_by_their_own_loss(tmp_path):
    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=[SIZE, SIZE],
        patch_size=4,
        num_detection_tokens=4,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = randomised(YolosForObjectDetection(config)).train()

    def target(number):
        classes = torch.arange(number % 4) % 3
        return {"class_labels": classes, "boxes": boxes(number) / 10}

    names = {"model": model, "torch": torch, "PruningArguments": PruningArguments}
    exec(page_code("image_losses"), names)
    rows = [{"pixel_values": picture(n), "labels": target(n)} for n in range(N)]
    trainer = trainer_of(
        model, rows, tmp_path, "Full", budget=None, sample_losses=names["image_losses"]
    )
    trainer.data_collator = lambda rows: {
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
        "labels": [row["labels"] for row in rows],
    }
    trainer.train()
    expected = exactly(lambda n: model(pixel_values=picture(n)[None], labels=[target(n)]).loss)
    assert len(set(expected.round(6))) > N / 2
    np.testing.assert_allclose(trainer.pruner.losses, expected, rtol=1e-4)


def test_the_page_runs(tmp_path):
    run_page("segmentation-and-detection", tmp_path)

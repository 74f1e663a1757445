"""Small folders as users would have them, one for each program, in the layout of its docstring."""

import json

import numpy as np
from PIL import Image

TRAIN, TEST = 24, 8


def picture(folder, name, rng, size=(40, 32), mode="RGB"):
    """Writes an image of noise, and returns its name."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(rng.integers(0, 256, shape, np.uint8), mode).save(folder / name)
    return name


def scene_text(folder, name, rng):
    word = "".join(rng.choice(list("abcd"), 4))
    return {"image": picture(folder, f"{name}.png", rng, (100, 30), "L"), "text": word}


def captioning(folder, name, rng):
    text = " ".join(rng.choice(["a", "red", "dog", "runs"], 5))
    return {"image": picture(folder, f"{name}.png", rng), "text": text}


def referring_segmentation(folder, name, rng):
    mask = np.zeros((32, 40), np.uint8)
    mask[4:20, 8:30] = 255
    Image.fromarray(mask).save(folder / f"{name}-mask.png")
    row = {"image": picture(folder, f"{name}.png", rng), "mask": f"{name}-mask.png"}
    return {**row, "text": rng.choice(["the dog", "the dog on the left"]).item()}


def composed_retrieval(folder, name, rng):
    files = {
        "reference": picture(folder, f"{name}-a.png", rng),
        "target": picture(folder, f"{name}-b.png", rng),
    }
    return {**files, "text": rng.choice(["make it blue", "a smaller one"]).item()}


def geo_localization(folder, name, rng):
    files = {
        "query": picture(folder, f"{name}-q.png", rng),
        "map": picture(folder, f"{name}-m.png", rng),
    }
    return {**files, "place": name}


def multi_view_stereo(folder, name, rng):
    poses = [np.eye(4) for _ in range(3)]
    poses[1][0, 3], poses[2][0, 3] = 0.2, -0.2
    intrinsics = [[40.0, 0.0, 20.0], [0.0, 40.0, 16.0], [0.0, 0.0, 1.0]]
    depth = rng.uniform(2.0, 4.0, (32, 40)).astype(np.float32)
    depth[:4] = 0.0
    np.save(folder / f"{name}.npy", depth)
    return {
        "images": [picture(folder, f"{name}-{view}.png", rng) for view in range(3)],
        "cameras": [{"intrinsics": intrinsics, "pose": pose.tolist()} for pose in poses],
        "depth": f"{name}.npy",
        "range": [1.5, 4.5],
    }


def instruction_tuning(folder, name, rng):
    first, second = rng.integers(0, 50, 2).tolist()
    return {"instruction": f"add {first} to {second}", "answer": str(first + second)}


def make(program, folder):
    """Writes train.jsonl and test.jsonl of a program, and the files that they name."""
    row_of = globals()[program]
    for part, count in (("train", TRAIN), ("test", TEST)):
        rng = np.random.default_rng(len(part))
        rows = [row_of(folder, f"{part}-{number}", rng) for number in range(count)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{part}.jsonl").write_text(text, encoding="utf-8")

"""Small files under the names that the documentation uses: checkpoints, images, texts, published data sets.

Everything is drawn: checkpoints have random numbers, and a picture is noise around the colour of its class.
"""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from prepared_sets import awa2, birds, cifar100, flowers
from small_models import small_clip

from clipjax.evaluation.difference_tasks import BLUE, BLUE_OF_CODE, LARGE, SMALL, YELLOW, YELLOW_OF_CODE
from clipjax.models.config import TextConfig, ViTConfig
from clipjax.weights.save import save

COLOURS = {"street": (90, 90, 90), "forest": (30, 160, 30), "beach": (200, 180, 60), "sea": (30, 60, 200)}
COUNTS = {"train": 17, "val": 2, "test": 3}  # of each class; 16 shots of it want a few more

CHECKPOINTS = {
    "ViT-B-32.pt": "openai-state-dict", "ViT-B-16.pt": "openai-state-dict", "ViT-L-14.pt": "openai-state-dict",
    "laion-b32": "openclip", "datacomp-l14": "openclip", "checkpoint": "huggingface", "testbed": "huggingface",
}  # fmt: skip
WHOLE, MEASURED_ON = ("photos", "eurosat", "dtd"), ("others", "labelled", "test")
FLAT = ("inbox", "train2017")
TARS = ("eurosat", "pacs", "cifar10", "flickr8k", "birds", "photos")
OTHER_DOMAINS = ("imagenet-v2", "imagenet-sketch", "imagenet-a", "imagenet-r")


class Picture(NamedTuple):
    split: str
    classname: str
    file: str
    content: bytes

    @property
    def path(self):
        return f"{self.classname}/{self.file}"


def write_world(folder: Path) -> None:
    """Write everything that commands in the documentation name, and nothing that they make."""
    vision = ViTConfig(image_size=16, patch_size=8, width=64, layers=1, heads=1, mlp_width=256)
    text = TextConfig(49408, 77, width=64, layers=1, heads=1, mlp_width=256, end_of_text="largest")
    model, params = small_clip(vision, text)
    params |= {"logit_scale": np.float32(np.log(100))}  # as trained CLIPs have it: some probabilities are high
    for name, form in CHECKPOINTS.items():
        save(folder / name, model, params, form)
    pictures = drawn_pictures()
    write_images(folder, pictures)
    write_texts(folder, pictures)
    write_published(folder)


def drawn_pictures() -> list[Picture]:
    random = np.random.default_rng(0)
    return [
        Picture(split, classname, f"{first + number}.jpg", encoded(random.normal(colour, 40, (16, 20, 3))))
        for first, (split, count) in zip((0, 100, 200), COUNTS.items())
        for classname, colour in COLOURS.items()
        for number in range(count)
    ]


def encoded(pixels: np.ndarray) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "jpeg")
        return file.getvalue()


def write_images(folder: Path, pictures: list[Picture]) -> None:
    tested = [one for one in pictures if one.split == "test"]
    for name in WHOLE:
        write_files(folder / name, {one.path: one.content for one in pictures} | {"manifest.csv": manifest(pictures)})
    for name in (*MEASURED_ON, *OTHER_DOMAINS):
        write_files(folder / name, {one.path: one.content for one in tested})
    write_files(folder / "train", {one.path: one.content for one in pictures if one.split == "train"})
    write_files(folder / "imagenet", {f"{one.split}/{one.path}": one.content for one in pictures})
    for name in FLAT:
        write_files(folder / name, {one.path.replace("/", "-"): one.content for one in pictures})
    for name in TARS:
        with tarfile.open(folder / f"{name}.tar", "w") as archive:
            listed = manifest(pictures, "heldout" if name in ("cifar10", "flickr8k") else "target")
            for path, content in [("manifest.csv", listed), *((one.path, one.content) for one in pictures)]:
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def manifest(pictures: list[Picture], role: str = "target") -> bytes:
    """List pictures with the columns of the test data, by which pages choose."""
    lines = ["path,classname,label,split,testbed,extra"]
    for one in pictures:
        part = "train" if one.split == "train" else "test"
        label = list(COLOURS).index(one.classname)
        lines.append(f"{one.path},{one.classname},{label},{one.split},{role}-{part},cartoon")
    return "\n".join(lines).encode()


def write_texts(folder: Path, pictures: list[Picture]) -> None:
    (folder / "classes.txt").write_text("\n".join(COLOURS) + "\n")
    names = {"template": "a photo of a {}.", "classes": list(COLOURS)}
    dumped = {
        "classes.json": {"pacs": names, "cifar10": names},
        "templates.json": {"cifar10": ["a photo of a {}.", "a blurry photo of a {}."]},
        "imagenet.json": {name: name for name in COLOURS},
        "cub_captions.json": {f"Bird_{number}.jpg": [f"a bird of {number} colours"] for number in range(8)},
        "captions_train2017.json": coco([one.path.replace("/", "-") for one in pictures]),
    }
    described = {name: [f"A {name} has a colour of its own.", f"One sees a {name} from above."] for name in COLOURS}
    for name in ("cupl", "cupl_dtd", "cupl_imagenet", "CuPL_prompts_eurosat"):
        dumped[f"{name}.json"] = described
    split = {
        part: [[one.path, list(COLOURS).index(one.classname), one.classname] for one in pictures if one.split == part]
        for part in COUNTS
    }
    for name in ("EuroSAT", "DescribableTextures"):
        dumped[f"split_zhou_{name}.json"] = split
    for name, content in dumped.items():
        (folder / name).write_text(json.dumps(content))
    lines = [(one.path, f"a {one.classname} in picture {one.file}, seen {way}") for one in pictures for way in "abcde"]
    for name in ("captions.csv", "flickr8k_captions.csv"):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([("image", "caption"), *lines])
    pairs = [(one, other, f"{one} is warmer, {other} colder") for one in COLOURS for other in COLOURS if one != other]
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("first", "second", "sentence"), *pairs])
    (folder / "captions.txt").write_text("".join(f"{line}\n" for _, line in lines))


def coco(files: list[str]) -> dict[str, list[dict]]:
    return {
        "images": [{"id": number, "file_name": file} for number, file in enumerate(files)],
        "annotations": [{"image_id": n, "id": n, "caption": f"This is {file}."} for n, file in enumerate(files)],
    }


def write_published(folder: Path) -> None:
    """Write what TFDS prepares of CIFAR-100, Flowers102 and CUB, and Animals with Attributes 2 as it is unpacked."""
    cifar100(folder, [*SMALL, *LARGE])
    flowers(folder, sorted({*BLUE, *YELLOW, *BLUE_OF_CODE, *YELLOW_OF_CODE})).rename(folder / "flowers102")
    birds(folder).rename(folder / "cub")
    awa2(folder)

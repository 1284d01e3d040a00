import json

import numpy as np
import pytest

from clipjax.classify.embed import embed_images, embed_texts
from clipjax.data.folder import open_folder
from clipjax.evaluation import median_rank, recall_at_k
from clipjax.inputs.tokenizer import openai_tokenizer
from clipjax.weights.load import load


@pytest.fixture
def captions(photos, tmp_path):
    """Two captions for each picture, as a JSON object."""
    ids = open_folder(photos).ids
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({image: [f"picture {n} of a {image[:3]}", f"a {n}"] for n, image in enumerate(ids)}))
    return path


@pytest.fixture
def retrieve(clipjax, checkpoint, photos, captions):
    """A function that ranks the pictures and their captions."""

    def run(*arguments, images=photos, captions=captions):
        return clipjax("retrieve", "--weights", checkpoint, "--images", images, "--captions", captions, *arguments)

    return run


def test_numbers_are_those_of_the_evaluation(retrieve, photos, captions, checkpoint):
    found = retrieve("--json").json
    model, params = load(checkpoint)
    source, texts = open_folder(photos), json.loads(captions.read_text())
    images, _, _ = embed_images(model, params, source)
    flat = [text for image in source.ids for text in texts[image]]
    text = embed_texts(model, params, openai_tokenizer(), flat)
    cosines = (images / np.linalg.norm(images, axis=1)[:, None]) @ (text / np.linalg.norm(text, axis=1)[:, None]).T
    caption_image = np.repeat(np.arange(12), 2)
    assert (found["images"], found["captions"]) == (12, 24)
    for k in (1, 5, 10):
        expected = recall_at_k(cosines, caption_image, k)
        assert (found[f"image_to_text_r{k}"], found[f"text_to_image_r{k}"]) == pytest.approx(
            [100 * r for r in expected]
        )
    ranks = found["image_to_text_median_rank"], found["text_to_image_median_rank"]
    assert ranks == median_rank(cosines, caption_image)


def test_table_has_both_directions(retrieve):
    out = retrieve().out
    assert "12 images and 24 captions" in out
    assert "image to text" in out and "text to image" in out and "R@10 %" in out


def test_captions_of_skipped_images_are_left_out(retrieve, broken_photos):
    found = retrieve("--skip-bad", "--json", images=broken_photos).json
    assert (found["images"], found["captions"], len(found["skipped"])) == (10, 20, 2)


def test_image_without_a_caption_is_named_before_anything_is_encoded(retrieve, captions, complains, clipjax, photos):
    texts = json.loads(captions.read_text())
    texts.pop("blue_sky/0.png")
    captions.write_text(json.dumps(texts))
    complains(
        clipjax("retrieve", "--weights", "missing", "--images", photos, "--captions", captions),
        "1 of 12 images have no caption ('blue_sky/0.png')",
    )


@pytest.mark.parametrize("content", ["image,text\na,b\n", "{", "[1, 2]", ""])
def test_file_that_holds_no_captions_is_one_line(content, retrieve, captions, complains):
    captions.write_text(content)
    complains(retrieve(), captions)

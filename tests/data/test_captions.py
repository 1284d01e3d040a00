import json

import pytest

from clipjax.data.captions import captions_for, read_captions
from clipjax.data.opening import open_source
from clipjax.data.source import memory_source
from clipjax.errors import DataError


@pytest.fixture
def caption_file(tmp_path):
    def write(content, name="captions.txt"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_csv_is_cut_at_the_first_comma(caption_file):
    path = caption_file('image,caption\na.jpg,A dog , a ball .\na.jpg,"Two "" big "" dogs , running"\n')
    assert read_captions(path) == {"a.jpg": ("A dog , a ball .", 'Two " big " dogs , running')}


def test_coco_json_joins_annotations_to_file_names(caption_file):
    coco = {
        "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "a.jpg"}],
        "annotations": [
            {"image_id": 3, "caption": "one"},
            {"image_id": 7, "caption": "two"},
            {"image_id": 3, "caption": "three"},
        ],
    }
    assert read_captions(caption_file(coco)) == {"a.jpg": ("one", "three"), "b.jpg": ("two",)}


def test_plain_json_maps_images_to_captions(caption_file):
    assert read_captions(caption_file({"a.jpg": ["one", "two"]})) == {"a.jpg": ("one", "two")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.jpg,a dog\n", "line 1 reads 'a.jpg,a dog'"),
        ("image,caption\na.jpg,one\nb.jpg\n", "line 3 lacks an image or a caption"),
        ("image,caption\na.jpg,one\nb.jpg, \n", "line 3 lacks an image or a caption"),
        ("image,caption\n", "holds no captions"),
        ({"a.jpg": "one"}, "not a caption file"),
        ({"a.jpg": []}, "'a.jpg' has no caption"),
        ({"a.jpg": ["one", 2]}, "a caption of a.jpg is 2"),
        ({"images": [{"id": 1}], "annotations": []}, "not COCO captions"),
        ({"images": [], "annotations": [{"image_id": 1, "caption": "x"}]}, "not COCO captions"),
        ('{"a.jpg": ["one"]', "line 1 is not valid JSON"),
        ('{"a.jpg": ["one"], "a.jpg": ["two"]}', "the key 'a.jpg' is given twice"),
    ],
)
def test_unusable_caption_file_says_where(content, message, caption_file):
    with pytest.raises(DataError, match=message) as error:
        read_captions(caption_file(content))
    assert "captions.txt" in str(error.value)


def test_caption_image_points_into_the_source(encoded):
    source = memory_source([encoded()] * 3, ids=["x/c.jpg", "x/a.jpg", "b.jpg"])
    captions = {"a.jpg": ("a1", "a2"), "b.jpg": ("b1",), "x/c.jpg": ("c1",), "unused.jpg": ("u",)}
    texts, caption_image = captions_for(source, captions)
    assert texts == ["c1", "a1", "a2", "b1"]
    assert caption_image.tolist() == [0, 1, 1, 2]


def test_images_without_captions_are_counted(encoded):
    source = memory_source([encoded()] * 3, ids=["a.jpg", "b.jpg", "c.jpg"])
    with pytest.raises(DataError, match=r"2 of 3 images have no caption \('b\.jpg', 'c\.jpg'\)"):
        captions_for(source, {"a.jpg": ("one",)})


def test_file_name_shared_by_two_images_is_an_error(encoded):
    source = memory_source([encoded()] * 2, ids=["x/a.jpg", "y/a.jpg"])
    with pytest.raises(DataError, match=r"several images are called a\.jpg"):
        captions_for(source, {"a.jpg": ("one",)})


def test_file_name_shared_by_two_entries_matches_neither(encoded):
    source = memory_source([encoded()], ids=["z/a.jpg"])
    with pytest.raises(DataError, match="have no caption"):
        captions_for(source, {"x/a.jpg": ("one",), "y/a.jpg": ("two",)})


def test_flickr8k_images_have_five_captions_each(shared_data):
    source = open_source(shared_data / "data/images/flickr8k.tar", where={"testbed": "heldout-test"})
    captions = read_captions(shared_data / "data/texts/captions/flickr8k_captions_all40455.csv")
    texts, caption_image = captions_for(source, captions)
    assert len(texts) == 5000
    assert caption_image.tolist() == [index for index in range(1000) for _ in range(5)]
    assert not any(text.startswith('"') and text.endswith('"') for text in texts)


def test_coco_file_has_all_its_captions(shared_data):
    captions = read_captions(shared_data / "data/texts/captions/coco_captions_val2017_full.json")
    assert (len(captions), sum(map(len, captions.values()))) == (5000, 25014)

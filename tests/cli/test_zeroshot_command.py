import csv
import io
import json

import numpy as np
import pytest

from clipjax.data.folder import open_folder


@pytest.fixture
def zeroshot(clipjax, checkpoint, photos):
    """A function that classifies the three folders of pictures."""

    def run(*arguments, images=photos):
        return clipjax("zeroshot", "--weights", checkpoint, "--images", images, *arguments)

    return run


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_predictions_go_to_standard_output_as_csv(zeroshot, classes, photos):
    result = zeroshot("--classes", classes)
    rows = table(result.out)
    assert [row["id"] for row in rows] == open_folder(photos).ids
    assert list(rows[0]) == ["id", "class", "probability", "class_2", "probability_2", "class_3", "probability_3"]
    assert result.err == ""


def test_probabilities_fall_and_add_up(zeroshot, classes):
    for row in table(zeroshot("--classes", classes).out):
        probabilities = [float(row[name]) for name in ("probability", "probability_2", "probability_3")]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert {row["class"], row["class_2"], row["class_3"]} == {"red panda", "green tree", "blue sky"}


def test_labels_give_a_table_of_accuracies_and_classes(zeroshot, classes):
    out = zeroshot("--classes", classes, "--labels").out
    assert "top-1 %" in out and "mean per class %" in out and "ECE %" in out
    assert all(name in out for name in ("red panda", "green tree", "blue sky"))


def test_labels_and_predictions_agree(zeroshot, classes, tmp_path):
    found = zeroshot("--classes", classes, "--labels", "--json", "-o", tmp_path / "p.csv").json
    rows = table((tmp_path / "p.csv").read_text())
    assert found["top1"] == pytest.approx(100 * np.mean([row["class"] == row["label"] for row in rows]))
    assert [row["label"] for row in rows[::4]] == ["blue sky", "green tree", "red panda"]
    assert np.sum(found["confusion"]) == found["images"] == 12
    assert np.trace(found["confusion"]) == pytest.approx(found["top1"] * 12 / 100)


def test_json_without_labels_lists_the_predictions(zeroshot, classes):
    found = zeroshot("--classes", classes, "--json").json
    rows = table(zeroshot("--classes", classes).out)
    assert [p["classes"][0]["class"] for p in found["predictions"]] == [row["class"] for row in rows]
    assert found["images"] == 12 and found["skipped"] == []


def test_output_file_is_written_and_nothing_printed(zeroshot, classes, tmp_path):
    result = zeroshot("--classes", classes, "-o", tmp_path / "p.csv")
    assert (result.out, result.err) == ("", f"clipjax: wrote 12 predictions to {tmp_path / 'p.csv'}\n")
    assert (tmp_path / "p.csv").read_text() == zeroshot("--classes", classes).out


@pytest.mark.parametrize("spec", ["{}", "{}:key"])
def test_class_file_is_never_replaced_by_predictions(spec, zeroshot, complains, tmp_path):
    path = tmp_path / "c.json"
    path.write_text('{"key": ["red panda", "blue sky", "green tree"]}')
    before = path.read_bytes()
    complains(zeroshot("--classes", spec.format(path), "-o", path, "--overwrite"), path, "which is read here")
    assert path.read_bytes() == before


def test_classes_that_share_a_name_have_the_same_probability_and_are_remarked_on(zeroshot, tmp_path):
    (tmp_path / "c.json").write_text('["missile", "red panda", "missile"]')
    result = zeroshot("--classes", tmp_path / "c.json")
    assert "classes that share a name are told apart by their position: 'missile'" in result.err
    for row in table(result.out):
        found = {row[f"class{place}"]: row[f"probability{place}"] for place in ("", "_2", "_3")}
        assert found["missile (0)"] == found["missile (2)"]


def test_descriptions_of_a_shared_name_are_those_of_each_class(zeroshot, tmp_path):
    (tmp_path / "c.json").write_text('["missile", "red panda", "missile"]')
    (tmp_path / "d.json").write_text('{"missile": ["It flies."], "red panda": ["It climbs."]}')
    result = zeroshot("--classes", tmp_path / "c.json", "--descriptions", tmp_path / "d.json")
    assert result.status == 0 and "missile (2)" in result.out


def test_classes_are_taken_from_the_folders_when_not_given(zeroshot, tmp_path):
    result = zeroshot("--labels", "--json")
    assert "3 class names taken from the images: 'blue sky', 'green tree', 'red panda'" in result.err
    (tmp_path / "c.json").write_text('["blue sky", "green tree", "red panda"]')
    assert result.json == zeroshot("--classes", tmp_path / "c.json", "--labels", "--json").json


def test_order_of_the_class_file_does_not_change_the_accuracy(zeroshot, classes, tmp_path):
    (tmp_path / "c.json").write_text('["red panda", "blue sky", "green tree"]')
    one, other = (zeroshot("--classes", c, "--labels", "--json").json for c in (classes, tmp_path / "c.json"))
    assert one["per_class"] == other["per_class"]


def test_more_classes_than_folders_are_allowed(zeroshot, classes):
    classes.write_text(classes.read_text() + "purple cow\n")
    assert zeroshot("--classes", classes, "--labels", "--json").json["per_class"]["purple cow"] is None


def test_texts_are_those_asked_for_else_those_of_the_class_file(zeroshot, tmp_path, monkeypatch):
    from clipjax.classify import zero_shot

    seen = []
    embed_texts = zero_shot.embed_texts
    monkeypatch.setattr(
        zero_shot, "embed_texts", lambda m, p, t, texts, **o: seen.append(texts) or embed_texts(m, p, t, texts, **o)
    )
    own = {"template": "{} texture.", "classes": ["blue sky", "green tree"]}
    (tmp_path / "c.json").write_text(json.dumps({"set": own}))
    (tmp_path / "t.txt").write_text("a {}.\nthe {}.\n")
    (tmp_path / "d.json").write_text('{"Blue_Sky": ["It is blue."], "green tree": ["It is green."]}')
    spec = f"{tmp_path / 'c.json'}:set"
    zeroshot()
    zeroshot("--classes", spec)
    zeroshot("--classes", spec, "--template", "one {}", "--template", tmp_path / "t.txt")
    zeroshot("--classes", spec, "--descriptions", tmp_path / "d.json")
    zeroshot("--classes", spec, "--descriptions", tmp_path / "d.json", "--template", "a {}")
    assert seen == [
        ["a photo of a blue sky.", "a photo of a green tree.", "a photo of a red panda."],
        ["blue sky texture.", "green tree texture."],
        ["one blue sky", "a blue sky.", "the blue sky.", "one green tree", "a green tree.", "the green tree."],
        ["It is blue.", "It is green."],
        ["a blue sky", "It is blue.", "a green tree", "It is green."],
    ]


def test_tar_and_folder_of_the_same_images_give_the_same(zeroshot, photos, tmp_path, classes):
    import tarfile

    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(photos, arcname="photos")
    folder, tar = (zeroshot("--classes", classes, "--labels", "--json", images=images).json
                   for images in (photos, tmp_path / "photos.tar"))  # fmt: skip
    assert folder == tar


def test_prepared_data_set_gives_the_same(zeroshot, clipjax, photos, tmp_path, classes):
    assert clipjax("data", "prepare", photos, tmp_path / "tfds", "--name", "photos").status == 0
    folder, tfds = (zeroshot("--classes", classes, "--labels", "--json", images=images).json
                    for images in (photos, tmp_path / "tfds"))  # fmt: skip
    assert folder == tfds


def test_skipped_images_are_left_out_of_every_number(zeroshot, broken_photos, classes, tmp_path):
    result = zeroshot(
        "--classes", classes, "--labels", "--skip-bad", "--json", "-o", tmp_path / "p.csv", images=broken_photos
    )
    assert result.json["images"] == len(table((tmp_path / "p.csv").read_text())) == 10
    assert [bad["id"] for bad in result.json["skipped"]] == ["green_tree/1.png", "red_panda/2.png"]
    assert "left out 2 images that cannot be used" in result.err


def write_manifest(folder, labels):
    lines = [f"{name}/0.png,{label},{called}" for name, (label, called) in labels.items()]
    (folder / "manifest.csv").write_text("\n".join(["path,label,classname", *lines]))


@pytest.fixture
def renamed(tmp_path):
    """Pictures whose manifest calls the classes by names that no class list has."""
    from picture_folders import write_pictures

    folder = write_pictures(tmp_path / "renamed")
    write_manifest(folder, {"green_tree": (0, "arbor"), "blue_sky": (1, "caelum"), "red_panda": (2, "ailurus")})
    return folder


def test_two_lists_of_equal_length_are_not_taken_for_the_same(zeroshot, renamed, classes, complains):
    result = zeroshot("--classes", classes, "--labels", images=renamed)
    complains(result, renamed, "'arbor', 'caelum', 'ailurus' are not in the class list", "--by-position")


def test_labels_count_by_position_when_asked(zeroshot, renamed, classes, photos):
    result = zeroshot("--classes", classes, "--labels", "--by-position", "--json", images=renamed)
    assert "matched to the class list by position" in result.err
    write_manifest(
        renamed, {"green_tree": (0, "green tree"), "blue_sky": (1, "blue sky"), "red_panda": (2, "red panda")}
    )
    assert result.json == zeroshot("--classes", classes, "--labels", "--json", images=renamed).json


def test_labels_without_names_count_by_position(zeroshot, renamed, classes):
    write_manifest(renamed, {"green_tree": (0, ""), "blue_sky": (1, ""), "red_panda": (2, "")})
    result = zeroshot("--classes", classes, "--labels", "--json", images=renamed)
    assert "matched to the class list by position" in result.err
    assert result.json["images"] == 3

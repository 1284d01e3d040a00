import json

import pytest

from clipjax.data.classes import ClassList, labels_for, read_classes, read_descriptions, read_templates
from clipjax.data.folder import open_folder
from clipjax.data.opening import open_source
from clipjax.data.source import memory_source
from clipjax.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="classes.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write_file


DATASETS = {
    "plain": ["cat", "dog"],
    "full": {"template": "a photo of a {c}.", "classes": ["cat", "dog"]},
    "mapped": {"template": None, "classes": {"n01": "cat", "n02": "dog"}},
}


def test_text_file_has_one_class_per_line(write):
    assert read_classes(write("cat\n sea lion \n\n", "classes.txt")).names == ("cat", "sea lion")


@pytest.mark.parametrize(
    ("key", "template", "folders"),
    [
        ("plain", None, None),
        ("full", "a photo of a {}.", None),
        ("mapped", None, {"n01": "cat", "n02": "dog"}),
    ],
)
def test_key_selects_a_data_set(key, template, folders, write):
    assert read_classes(f"{write(DATASETS)}:{key}") == ClassList(("cat", "dog"), template, folders)


@pytest.mark.parametrize("key", ["plain", "full", "mapped"])
def test_each_form_may_be_a_whole_file(key, write):
    assert read_classes(write(DATASETS[key])).names == ("cat", "dog")


def test_file_whose_name_holds_a_colon_is_read(write):
    assert read_classes(f"{write(DATASETS, 'v1:classes.json')}:plain").names == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        (DATASETS, ":nope", "no entry 'nope'; the keys are 'plain', 'full', 'mapped'"),
        (DATASETS, "", "choose one with FILE:KEY, the keys are 'plain', 'full', 'mapped'"),
        (["cat"], ":x", "it is a list, leave out :x"),
        ("cat\ndog\n", ":x", "plain text, so there is no entry 'x'"),
        ("cat\n\ndog\n", "", "class 1 is ''"),
        (["cat", ""], "", "class 1 is ''"),
        (["cat", 3], "", "class 1 is 3"),
        (["cat", ["dog", ""]], "", "class 1 is \\['dog', ''\\]"),
        (["cat", []], "", "class 1 is \\[\\]"),
        ([], "", "holds no class names"),
        ("", "", "holds no class names"),
        ({"template": "no place", "classes": ["cat"]}, "", "has no place for the class name"),
        ({"template": "", "classes": ["cat"]}, "", "is not a template"),
        ("[1,", "", "not valid JSON"),
    ],
)
def test_unusable_class_file_says_why(content, key, message, write):
    path = write(content)
    with pytest.raises(DataError, match=message) as error:
        read_classes(f"{path}{key}")
    assert "classes.json" in str(error.value)


def test_classes_that_share_a_name_are_told_apart_by_position_and_spoken_of_alike(write):
    classes = read_classes(write(["missile", "cat", "missile"]))
    assert classes.names == ("missile (0)", "cat", "missile (2)")
    assert classes.prompt_names == (("missile",), ("cat",), ("missile",))


def test_numbered_names_stay_distinct_from_names_that_look_like_them(write):
    assert len(set(read_classes(write(["a", "a", "a (0)", "b"])).names)) == 4


def test_folders_of_classes_that_share_a_name_lead_to_their_own(write, make_folder, encoded):
    source = open_folder(make_folder({"n1/1.png": encoded(), "n2/1.png": encoded()}))
    labels, how = labels_for(source, read_classes(write({"n2": "missile", "n1": "missile"})))
    assert (labels.tolist(), how) == ([1, 0], "by name")


def test_synonyms_stand_for_one_class(write):
    classes = read_classes(write([["happy", "smiling"], ["angry"]]))
    assert classes.names == ("happy", "angry")
    assert classes.prompt_names == (("happy", "smiling"), ("angry",))


@pytest.mark.parametrize(("key", "count"), [("imagenet", 1000), ("fer2013", 7)])
def test_published_class_lists_are_read_as_they_stand(key, count, shared_data):
    names = read_classes(f"{shared_data}/data/texts/templates/classes.json:{key}").names
    assert len(set(names)) == len(names) == count


def test_missing_class_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_classes(tmp_path / "nothing.json")


def test_every_testbed_class_list_has_a_template(shared_data):
    path = shared_data / "testbed" / "classes.json"
    for key in json.loads(path.read_text()):
        assert "{}" in read_classes(f"{path}:{key}").template


def test_literal_template_is_taken_as_it_is():
    assert read_templates("a photo of a {}.") == ("a photo of a {}.",)


def test_older_placeholder_is_replaced():
    assert read_templates("{c} texture.") == ("{} texture.",)


def test_templates_come_from_lists_keys_and_lines(write):
    expected = ("a {}.", "the {}.")
    assert read_templates(write(["a {c}.", "the {}."])) == expected
    assert read_templates(f"{write({'dtd': ['a {}.', 'the {}.']})}:dtd") == expected
    assert read_templates(write("a {}.\nthe {c}.\n", "templates.txt")) == expected


@pytest.mark.parametrize(
    ("first", "read"), [("{} in the wild.", "{} in the wild."), ("{c} texture.", "{} texture."), ("{}", "{}")]
)
def test_lines_may_begin_with_the_place_of_the_name(first, read, write):
    assert read_templates(write(f"{first}\na photo of a {{}}.\n", "t.txt")) == (read, "a photo of a {}.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no list of templates"),
        (["a photo"], "has no place for the class name"),
        ([""], "is not a template"),
        (["a {} in {place}"], "holds other braces"),
        ({"dtd": ["a {}"]}, "choose one with FILE:KEY, the keys are 'dtd'"),
    ],
)
def test_unusable_templates_say_why(content, message, write):
    with pytest.raises(DataError, match=message):
        read_templates(write(content))


@pytest.mark.parametrize("spec", ["a photo of a dog", "a very long story " * 30, "~nobody/here", "nul\0"])
def test_neither_template_nor_file_is_explained(spec):
    with pytest.raises(DataError, match="neither a template nor a file"):
        read_templates(spec)


def test_published_templates_are_read(shared_data):
    path = shared_data / "data/texts/templates/templates.json"
    assert {key: len(read_templates(f"{path}:{key}")) for key in ("imagenet", "dtd", "pets")} == {
        "imagenet": 80,
        "dtd": 8,
        "pets": 1,
    }


def test_descriptions_match_names_in_any_spelling(write):
    path = write({"Sea_Lion": ["It swims.", " "], "wheel-chair": ["It rolls."], "unused": ["x"]})
    assert read_descriptions(path, ["wheel chair", "sea lion"]) == {
        "wheel chair": ("It rolls.",),
        "sea lion": ("It swims.",),
    }


def test_classes_without_descriptions_are_listed(write):
    with pytest.raises(DataError, match="describes 1 of 3 classes; missing are 'dog', 'emu'"):
        read_descriptions(write({"cat": ["It purrs."], "dog": []}), ["cat", "dog", "emu"])


def test_missing_descriptions_can_be_allowed(write):
    assert read_descriptions(write({"cat": ["It purrs."]}), ["cat", "emu"], allow_missing=True) == {
        "cat": ("It purrs.",),
        "emu": (),
    }


@pytest.mark.parametrize("content", [["cat"], {"cat": [1]}, {"cat": {"a": "b"}}])
def test_unusable_descriptions_are_a_data_error(content, write):
    with pytest.raises(DataError, match=r"classes\.json"):
        read_descriptions(write(content), ["cat"])


@pytest.mark.parametrize(
    ("path", "classes"),
    [
        ("susx/CuPL_prompts_eurosat.json", "eurosat"),
        ("cupl/texture_prompts_full.json", "dtd"),
        ("cupl/cifar10_prompts_full.json", "cifar10"),
        ("dclip/descriptors_dtd.json", "dtd"),
    ],
)
def test_published_descriptions_cover_their_classes(path, classes, shared_data):
    names = read_classes(f"{shared_data}/testbed/classes.json:{classes}").names
    assert all(read_descriptions(shared_data / "data/texts/descriptions" / path, names).values())


def pets(encoded, classnames, labels=None):
    images = [encoded()] * len(classnames)
    return memory_source(images, labels=labels, classnames=classnames)


def test_labels_follow_names_whatever_the_order(encoded):
    source = pets(encoded, ["Sea_Lion", "cat", "Sea_Lion"], labels=[0, 1, 0])
    labels, how = labels_for(source, ClassList(("dog", "cat", "sea lion")))
    assert (labels.tolist(), how) == ([2, 1, 2], "by name")


def test_labels_follow_the_folders_of_the_class_file(make_folder, encoded):
    source = open_folder(make_folder({"n01/1.png": encoded(), "n02/1.png": encoded()}))
    class_list = ClassList(("dog", "cat"), folders={"n02": "dog", "n01": "cat"})
    labels, how = labels_for(source, class_list)
    assert (labels.tolist(), how) == ([1, 0], "by name")


def test_written_labels_are_used_by_position_when_names_differ(encoded):
    source = pets(encoded, ["Felis catus", "Canis"], labels=[0, 1])
    labels, how = labels_for(source, ClassList(("cat", "dog")))
    assert (labels.tolist(), how) == ([0, 1], "by position")


def test_written_labels_without_names_are_used_by_position(encoded):
    labels, how = labels_for(pets(encoded, ["", ""], labels=[1, 0]), ClassList(("cat", "dog")))
    assert (labels.tolist(), how) == ([1, 0], "by position")


def test_position_is_not_trusted_when_a_known_name_contradicts_it(encoded):
    source = pets(encoded, ["dog", "Felis catus"], labels=[0, 1])
    with pytest.raises(DataError, match="'dog' has label 0, but position 1"):
        labels_for(source, ClassList(("cat", "dog")))


def test_label_beyond_the_class_list_is_an_error(encoded):
    with pytest.raises(DataError, match="label 2 is beyond its 2 classes"):
        labels_for(pets(encoded, ["a", "b"], labels=[0, 2]), ClassList(("cat", "dog")))


def test_folders_that_do_not_match_are_an_error_even_if_the_counts_agree(make_folder, encoded):
    source = open_folder(make_folder({"n01/1.png": encoded(), "n02/1.png": encoded()}))
    with pytest.raises(DataError, match=r"'n01', 'n02' are not in the class list \('cat', 'dog'\).*JSON object"):
        labels_for(source, ClassList(("cat", "dog")))


SHARED = ClassList(("missile (0)", "cat", "missile (2)"), spoken=(("missile",), ("cat",), ("missile",)))


def test_written_label_says_which_class_of_a_shared_name_is_meant(encoded):
    labels, how = labels_for(pets(encoded, ["missile", "missile", "cat"], labels=[2, 0, 1]), SHARED)
    assert (labels.tolist(), how) == ([2, 0, 1], "by name")


def test_shared_name_with_the_label_of_another_class_is_an_error(encoded):
    with pytest.raises(DataError, match=r"'missile' stand for several classes.*label 1, but position 0 and 2"):
        labels_for(pets(encoded, ["missile", "cat"], labels=[1, 0]), SHARED)


def test_folder_of_a_shared_name_is_an_error(make_folder, encoded):
    source = open_folder(make_folder({"missile/1.png": encoded(), "cat/1.png": encoded()}))
    with pytest.raises(DataError, match="'missile' stand for several classes of the list"):
        labels_for(source, SHARED)


def test_data_may_use_any_synonym(encoded):
    classes = ClassList(("happy", "angry"), spoken=(("happy", "smiling"), ("angry",)))
    labels, how = labels_for(pets(encoded, ["angry", "Smiling"], labels=[0, 1]), classes)
    assert (labels.tolist(), how) == ([1, 0], "by name")


def test_unlabelled_images_are_an_error(encoded):
    with pytest.raises(DataError, match="1 of 2 images have no label"):
        labels_for(pets(encoded, ["cat", ""], labels=[0, -1]), ClassList(("cat", "dog")))


def test_spelling_variants_in_the_class_list_are_told_apart_exactly(encoded):
    source = pets(encoded, ["A", "a"], labels=[0, 1])
    assert labels_for(source, ClassList(("a", "A")))[0].tolist() == [1, 0]


@pytest.mark.parametrize(("tar", "key"), [("eurosat", "eurosat"), ("caltech101", "caltech"), ("pacs", "pacs")])
def test_testbed_class_lists_match_their_manifests_by_name(tar, key, shared_data):
    source = open_source(shared_data / "data/images" / f"{tar}.tar")
    labels, how = labels_for(source, read_classes(f"{shared_data}/testbed/classes.json:{key}"))
    assert how == "by name"
    assert labels.tolist() == source.labels.tolist()

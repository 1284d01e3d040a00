import pytest

from clipjax.data.image_names import ImageNames


@pytest.mark.parametrize(
    ("names", "asked", "place"),
    [
        (["a/1.jpg", "b/2.jpg"], "b/2.jpg", 1),
        (["a/1.jpg", "b/2.jpg"], "2.jpg", 1),  # the texts' names lack folders
        (["1.jpg", "2.jpg"], "b/2.jpg", 1),  # the images' do
        (["a/1.jpg", "b/1.jpg"], "1.jpg", None),
        (["a/1.jpg"], "b/1.jpg", None),
        (["1.jpg", "a/1.jpg"], "b/1.jpg", None),
        (["1.jpg", "a/1.jpg"], "1.jpg", 0),
        ([], "1.jpg", None),
    ],
)
def test_file_names_count_where_one_side_has_no_folder(names, asked, place):
    assert ImageNames(names).place(asked) == place


def test_a_name_that_comes_twice_is_one_image():
    assert ImageNames(["a.jpg", "b.jpg", "a.jpg"]).place("b.jpg") == 1

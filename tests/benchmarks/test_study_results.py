"""What was measured is found again, also after a stop in the middle of a line."""

from benchmarks.study_results import note, noted


def test_results_are_read_in_the_order_they_were_written(tmp_path):
    path = tmp_path / "results.jsonl"
    assert noted(path) == []
    for number in range(3):
        note(path, {"number": number, "text": "ä\n"})
    assert noted(path) == [{"number": number, "text": "ä\n"} for number in range(3)]


def test_a_line_that_was_cut_short_is_measured_again(tmp_path):
    path = tmp_path / "results.jsonl"
    note(path, {"number": 0})
    with path.open("a", encoding="utf-8") as file:
        file.write('{"number": 1')
    assert noted(path) == [{"number": 0}]
    note(path, {"number": 1})
    assert noted(path) == [{"number": 0}, {"number": 1}]

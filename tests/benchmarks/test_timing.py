"""How the sides of a comparison take turns, and what is said of the machine."""

from importlib.metadata import PackageNotFoundError

from benchmarks import timing


def test_every_side_is_equally_often_in_every_place():
    rounds = [timing.rotated(("a", "b", "c"), turn) for turn in range(6)]
    assert all(sorted(place) == list("aabbcc") for place in zip(*rounds))


def test_functions_of_a_round_begin_with_another_each_time():
    calls = []
    timing.alternate({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2, pause=0)
    assert "".join(calls[4:]) == "aabbbbaa"  # after two calls each that are not measured


def test_absent_library_is_none(monkeypatch):
    def version(name):
        if name == "torch":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(timing, "version", version)
    found = timing.machine()
    assert (found["torch"], found["jax"]) == (None, "1.0")

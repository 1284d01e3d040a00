import pytest

from clipjax.cli import doctor
from clipjax.cli.doctor import FORMATS, PACKAGES


@pytest.fixture(autouse=True)
def few_digits(monkeypatch):
    digits = doctor.digits
    monkeypatch.setattr(doctor, "digits", lambda size: digits(size)[:32])


@pytest.fixture
def something_changes(monkeypatch):
    """Loading adds a little to one number."""
    from clipjax.weights import load as load_module

    load = load_module.load

    def changed(path):
        model, params = load(path)
        return model, {**params, "logit_scale": params["logit_scale"] + 1e-3}

    monkeypatch.setattr(load_module, "load", changed)


@pytest.mark.slow
def test_nothing_changes_through_all_formats(clipjax):
    result = clipjax("doctor", "--json")
    assert (result.status, result.json["healthy"]) == (0, True)
    assert [row["step"] for row in result.json["steps"]] == ["built at random", *(f"through {f}" for f in FORMATS)]
    assert all((row["images"], row["texts"], row["largest_change"]) == (32, 10, 0) for row in result.json["steps"])


def test_every_format_is_visited():
    from clipjax.weights.save import FORMATS as KNOWN

    assert set(FORMATS) == set(KNOWN)


def test_machine_and_versions_are_in_the_report(clipjax, monkeypatch):
    import jax

    row = {"step": "built at random", "images": 32, "texts": 10, "largest_change": 0.0, "agreement": 1.0}
    monkeypatch.setattr(doctor, "round_trip", lambda progress: [row])
    out = clipjax("doctor").out
    assert all(f" {name} " in out for name in ("python", "devices", *PACKAGES))
    assert jax.__version__ in out
    assert "all is well: nothing changed" in out


@pytest.mark.usefixtures("something_changes")
def test_change_is_bad_news_and_status_1(clipjax, monkeypatch):
    monkeypatch.setattr(doctor, "FORMATS", ("openai-state-dict",))
    result = clipjax("doctor")
    assert result.status == 1
    assert "something changed: please report this output" in result.out


def test_missing_package_is_said(clipjax, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    assert doctor.machine()["no-such-package"] == "missing"


def test_digits_are_the_1797_of_scikit_learn_as_model_input(monkeypatch):
    monkeypatch.undo()
    found = doctor.digits(8)
    assert found.shape == (1797, 8, 8, 3)
    assert found.std() > 0.1

"""A model on this machine: what it writes depends on the question alone, and what goes wrong goes wrong alone."""

import importlib.util
import io
import json
import shutil
import sys

import pytest
from PIL import Image

from clipjax.errors import ConfigError, DataError
from clipjax.texts.generate import generate
from clipjax.texts.question import Question
from clipjax.texts.store import TextStore
from clipjax.texts.writers import local
from clipjax.texts.writers.chat_model import Draws, ModelError, Reply
from clipjax.texts.writers.local import LocalModel

torch = pytest.importorskip("torch")
tiny = pytest.importorskip("tiny_models")
pytestmark = pytest.mark.torch

NEEDS = {"tiny_qwen_vl": ["torchvision"], "tiny_smolvlm": ["torchvision", "num2words"]}
COLOURS = ["red", "green", "blue", "white"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function that makes a tiny model once and returns its folder."""
    folder = tmp_path_factory.mktemp("models")

    def make(name):
        if absent := [package for package in NEEDS.get(name, []) if importlib.util.find_spec(package) is None]:
            pytest.skip(f"the processor of {name} needs {' and '.join(absent)}")
        return folder / name if (folder / name).exists() else getattr(tiny, name)(folder / name)

    return make


@pytest.fixture
def llama(made):
    return made("tiny_llama")


@pytest.fixture
def llava(made):
    return made("tiny_llava")


def picture(n):
    return Image.new("RGB", (40 + 10 * n, 50), COLOURS[n % 4])


def about_texts(count):
    return [Question("class_description", (f"{n}",), f"what {'is ' * n}it?", "p", "f") for n in range(count)]


def about_images(count):
    return [
        Question("caption", (f"{n}.jpg",), f"what {'is ' * n}it?", "p", "f", pictures=lambda n=n: [picture(n)])
        for n in range(count)
    ]


def asked(folder, questions, **fields):
    """The answer to each question by its subjects."""
    writer = LocalModel(str(folder), **({"max_tokens": 8} | fields))
    return {answer.question.subjects: answer for answer in writer.answers(questions)}


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_llava", "tiny_llava_next", "tiny_qwen_vl", "tiny_smolvlm"])
def test_a_batch_writes_what_each_question_alone_writes(made, name, temperature):
    questions = about_texts(3)
    if name != "tiny_llama":
        pair = Question("difference", ("a", "b"), "how do they differ?", pictures=lambda: [picture(1), picture(4)])
        questions = [*about_images(4), *questions, pair]
    together = asked(made(name), questions, batch_size=8, temperature=temperature)
    alone = asked(made(name), questions, batch_size=1, temperature=temperature)
    assert together == alone
    assert len(together) == len(questions)
    assert all(answer.text and answer.error is None for answer in together.values())


def test_an_answer_depends_on_the_image(llava):
    questions = [
        Question("caption", (f"{n}",), "what is it?", pictures=lambda n=n: [Image.new("RGB", (32, 32), COLOURS[n])])
        for n in range(4)
    ]
    assert len({answer.text for answer in asked(llava, questions).values()}) == 4


def test_samples_differ_and_come_again(llama):
    questions = [
        Question("class_description", ("cat", str(sample)), "what is a cat?", sample=sample, seed=sample)
        for sample in range(6)
    ]
    first = asked(llama, questions, temperature=1.0)
    assert len({answer.text for answer in first.values()}) == 6
    assert asked(llama, questions[::-1], temperature=1.0, batch_size=4) == first


def test_a_temperature_near_zero_takes_the_likeliest(llama):
    questions = about_texts(4)
    assert asked(llama, questions, temperature=1e-6) == asked(llama, questions)


def test_draws_follow_the_distribution_of_the_temperature():
    scores = torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    rows = 20_000
    drawn = Draws(2.0, range(rows))(None, scores.repeat(rows, 1)).argmax(dim=1)
    shares = torch.bincount(drawn, minlength=4) / rows
    torch.testing.assert_close(shares, torch.softmax(scores / 2, dim=0), atol=0.015, rtol=0)


def test_tokens_read_and_written_are_counted(llama):
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(llama)
    answers = asked(llama, about_texts(3), max_tokens=5)
    for answer in answers.values():
        read = tokenizer(f"USER: {answer.question.text}\nASSISTANT:")["input_ids"]
        assert answer.tokens == len(read) + 5


def test_an_answer_ends_where_the_model_ends_it(llama, tmp_path):
    (whole,) = asked(llama, about_texts(1)).values()
    import transformers

    written = transformers.AutoTokenizer.from_pretrained(llama)(whole.text)["input_ids"]
    folder = shutil.copytree(llama, tmp_path / "ending")
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": [written[2], 1]}))
    answers = asked(folder, about_texts(3))
    ended = answers[whole.question.subjects]
    assert whole.text.startswith(ended.text) and len(ended.text) < len(whole.text)
    assert ended.tokens == whole.tokens - 8 + written.index(written[2]) + 1
    assert asked(folder, about_texts(3), batch_size=1) == answers


def test_a_tokenizer_without_padding_is_given_one(tmp_path):
    folder = tiny.tiny_llama(tmp_path / "unpadded", pad=None)
    assert asked(folder, about_texts(3)) == asked(folder, about_texts(3), batch_size=1)


def test_thinking_is_switched_off_where_the_template_knows_it(tmp_path):
    thinks = "{% if enable_thinking is not defined or enable_thinking %}think first, at great length{% endif %}"
    plain = tiny.tiny_llama(tmp_path / "plain")
    thinking = tiny.tiny_llama(tmp_path / "thinking", template=tiny.TEXT_TURNS + thinks)
    assert asked(plain, about_texts(2)) == asked(thinking, about_texts(2))


def test_a_group_is_shown_as_one_picture(llava):
    four = Question("group_caption", ("a", *"bcde"), "what?", pictures=lambda: [picture(n) for n in range(4)])
    one = Question("caption", ("a",), "what?", pictures=lambda: [picture(0)])
    answers = asked(llava, [four, one])
    assert answers[four.subjects].tokens == answers[one.subjects].tokens


def test_images_are_shown_in_colour_and_no_larger_than_wished(llava, monkeypatch):
    shown = []

    class Fake:
        def replies(self, asks, **options):
            shown.extend(image for ask in asks for image in ask.images)
            return [Reply("fine", 1) for _ in asks]

    monkeypatch.setattr(local, "load_chat_model", lambda *_, **__: Fake())
    question = Question("caption", ("a",), "what?", pictures=lambda: [Image.new("RGBA", (80, 40))])
    asked(llava, [question], image_side=20)
    assert [(image.mode, image.size) for image in shown] == [("RGB", (20, 10))]


def test_half_precision_writes_too(llava):
    answers = asked(llava, about_images(2), dtype="bfloat16")
    assert all(answer.text for answer in answers.values())


def test_a_text_model_that_is_given_an_image_ends_the_run_before_anything_is_asked(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "load_chat_model", lambda *_, **__: pytest.fail("the weights were loaded"))
    store = TextStore(tmp_path / "texts.jsonl", create=True)
    with pytest.raises(ModelError, match=r"tiny_llama: the model takes no images.*take a vision-language model"):
        generate(store, LocalModel(str(llama)), [*about_texts(1), *about_images(1)])
    assert len(store) == 0


def unreadable():
    raise DataError("b.jpg: cannot be decoded; replace it")


def cut_short():
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return [Image.open(io.BytesIO(file.getvalue()[:200]))]


def test_an_image_that_cannot_be_read_fails_alone(llava):
    bad = [
        Question("caption", ("b.jpg",), "what?", pictures=unreadable),
        Question("caption", ("c.jpg",), "what?", pictures=cut_short),
    ]
    answers = asked(llava, [*about_images(2), *bad, *about_images(3)[2:]])
    assert answers[("b.jpg",)].error == "b.jpg: cannot be decoded; replace it"
    assert "an image cannot be read" in (answers[("c.jpg",)].error or "")
    assert [answer.error for answer in answers.values()].count(None) == 3


def test_a_question_that_the_processor_refuses_fails_alone(llava):
    odd = Question("caption", ("odd",), "is this an <image> of an <image>?", pictures=lambda: [picture(0)])
    answers = asked(llava, [*about_images(2), odd])
    assert "the model cannot be asked this" in (answers.pop(("odd",)).error or "")
    assert answers == asked(llava, about_images(2))


def test_closing_the_answers_ends_the_asking_after_the_batch(llama):
    source = iter(about_texts(20))
    answers = LocalModel(str(llama), batch_size=4, max_tokens=2).answers(source)
    next(answers)
    answers.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert len(list(source)) == 16


def test_a_run_that_is_stopped_midway_goes_on_where_it_was(llava, tmp_path):
    def stopping(answers, **_):
        for number, answer in enumerate(answers):
            if number == 5:
                raise KeyboardInterrupt
            yield answer

    path, writer = tmp_path / "texts.jsonl", LocalModel(str(llava), batch_size=4, max_tokens=8)
    with pytest.raises(KeyboardInterrupt):
        generate(TextStore(path, create=True), writer, about_images(10), progress=stopping)
    again = generate(TextStore(path), LocalModel(str(llava), batch_size=3, max_tokens=8), about_images(10))
    assert (again.known, again.answered, again.failed) == (5, 5, 0)
    assert TextStore(path).verify() == []
    whole = {subjects: answer.text for subjects, answer in asked(llava, about_images(10)).items()}
    assert {record.subjects: record.text for record in TextStore(path).records()} == whole


def test_nothing_is_loaded_where_nothing_is_asked(llama, tmp_path, monkeypatch):
    store = TextStore(tmp_path / "texts.jsonl", create=True)
    generate(store, LocalModel(str(llama), max_tokens=2), about_texts(3))
    monkeypatch.setattr(local, "read_config", lambda path: pytest.fail("the model was looked at"))
    assert generate(store, LocalModel(str(llama), max_tokens=2), about_texts(3)).known == 3


def test_another_model_in_the_same_place_has_another_name(llama, tmp_path):
    name = LocalModel(str(llama)).model
    assert name.startswith("tiny_llama-") and len(name) == len("tiny_llama-") + 8
    assert LocalModel(str(shutil.copytree(llama, tmp_path / "tiny_llama"))).model == name
    tiny.tiny_llama(tmp_path / "tiny_llama", seed=1)
    assert LocalModel(str(tmp_path / "tiny_llama")).model != name
    assert LocalModel("owner/name").model == "owner/name"


def break_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def drop_template(folder):
    (folder / "chat_template.jinja").unlink()


def make_clip(folder):
    import transformers

    transformers.CLIPConfig().save_pretrained(folder)


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (break_weights, "cannot be loaded as a language model"),
        (drop_template, "has no chat template; take the instruction-tuned version"),
        (make_clip, "is a model of the type 'clip', which writes no text"),
        (lambda folder: (folder / "config.json").unlink(), "cannot be loaded as a language model"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded as a language model"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "cannot be loaded as a language model"),
        (lambda folder: shutil.rmtree(folder), "cannot be loaded as a language model"),
    ],
)
def test_what_is_no_model_is_one_line(llama, tmp_path, harm, complaint):
    folder = shutil.copytree(llama, tmp_path / "harmed")
    harm(folder)
    with pytest.raises(ModelError, match=complaint) as raised:
        asked(folder, about_texts(1))
    assert str(raised.value).startswith(f"{folder}: ") and len(str(raised.value)) < 500


def test_a_model_without_its_image_processor_is_one_line(llava, tmp_path):
    folder = shutil.copytree(llava, tmp_path / "blind")
    (folder / "processor_config.json").unlink()
    with pytest.raises(ModelError):
        asked(folder, about_images(1))


def test_a_device_that_is_not_there_is_one_line(llama):
    with pytest.raises(ModelError, match=r"cannot be put on the device 'gpu'.*choose another"):
        asked(llama, about_texts(1), device="gpu")


@pytest.mark.parametrize(("batch_size", "remedy"), [(4, "a smaller batch_size"), (1, "a smaller image_side")])
def test_too_little_memory_is_one_line_that_names_the_batch(llama, monkeypatch, batch_size, remedy):
    import transformers

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    monkeypatch.setattr(transformers.LlamaForCausalLM, "generate", full)
    with pytest.raises(ModelError, match=f"tiny_llama: out of memory at batch_size={batch_size}; try {remedy}"):
        asked(llama, about_texts(4), batch_size=batch_size)


def test_a_missing_torch_is_one_line_that_names_the_extra(llama, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"torch; pip install 'clipjax\[lmm-local\]'"):
        asked(llama, about_texts(1))


def test_a_processor_whose_packages_are_missing_is_one_line_that_names_the_extra(llava, monkeypatch):
    import transformers

    def lacking(*_, **__):
        raise ImportError("requires the Torchvision library\nbut it was not found")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", lacking)
    with pytest.raises(ConfigError, match=r"Torchvision library but .*pip install 'clipjax\[lmm-local\]'"):
        asked(llava, about_images(1))


@pytest.mark.parametrize(
    "fields", [{"batch_size": 0}, {"max_tokens": 0}, {"temperature": -1.0}, {"image_side": 0}, {"dtype": "int8"}]
)
def test_senseless_settings_are_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        LocalModel("anything", **fields)

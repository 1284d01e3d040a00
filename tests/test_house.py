"""The rules of the house: who may import whom, what an import costs, how modules look."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "clipjax"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "models": 1,
    "losses": 1,
    "weights": 2,
    "inputs": 2,
    "parallel": 3,
    "data": 3,
    "texts": 3,
    "training": 4,
    "classify": 4,
    "methods": 5,
    "evaluation": 6,
    "serving": 6,
    "cli": 7,
}
GROUND = {"errors", "outputs", "progress"}
WITHOUT_FILES = ("models", "losses", "methods")
HEAVY = {
    "torch", "tensorflow", "transformers", "orbax", "grain", "tensorflow_datasets", "sklearn", "matplotlib", "pyarrow",
    "tokenizers", "huggingface_hub", "pandas", "fastapi", "starlette", "uvicorn",
}  # fmt: skip
SHAPELESS_NAMES = ("util", "helper", "misc", "common", "manager", "handler", "stuff")
LONGEST_MODULE = 350


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def dotted(path):
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Yield (line, module, name) of every import, those inside functions too; `name` is None for plain imports."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield from ((node.lineno, module, alias.name) for alias in node.names)


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "clipjax" else None


def target(module, name):
    """The part of clipjax that an import reaches: `from clipjax import data` reaches data."""
    return name if module == "clipjax" else room(module)


def trespasses(path):
    own = room(dotted(path))
    for line, module, name in imports(path):
        if module.split(".")[0] != "clipjax":
            continue
        place = f"{path.relative_to(REPOSITORY)}:{line}"
        reached = target(module, name)
        if own in GROUND and reached not in GROUND:
            yield f"{place}: the ground floor imports {module}"
        if reached in GROUND or reached is None or own is None or reached == own:
            continue
        if reached not in FLOORS:
            yield f"{place}: {reached} has no floor"
        elif own in FLOORS and FLOORS[reached] > FLOORS[own]:
            yield f"{place}: {own} imports {reached}, which is above it"
        elif any(part.startswith("_") for part in [*module.split("."), name or ""]):
            yield f"{place}: {own} imports a private name of {reached}"


def test_every_package_has_a_floor():
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} <= set(FLOORS)


def test_every_lone_module_is_on_the_ground_floor():
    assert {path.stem for path in PACKAGE.glob("*.py")} == GROUND | {"__init__"}


def test_imports_go_downwards_and_to_public_names_only():
    assert [trespass for path in MODULES for trespass in trespasses(path)] == []


@pytest.mark.parametrize(
    ("own", "line", "complaint"),
    [
        ("models/a.py", "from clipjax.weights.load import load", "which is above it"),
        ("models/a.py", "def f():\n    import clipjax.cli.main", "which is above it"),
        ("models/a.py", "from ..data import source", "which is above it"),
        ("models/a.py", "from clipjax import training", "which is above it"),
        ("weights/a.py", "from clipjax.inputs.bpe import _BYTE", "a private name"),
        ("data/a.py", "from clipjax.attic import dust", "has no floor"),
        ("errors.py", "from clipjax.models.clip import CLIP", "ground floor"),
    ],
)
def test_trespasses_are_seen(own, line, complaint, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "REPOSITORY", tmp_path)
    path = tmp_path / "clipjax" / own
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert [complaint in trespass for trespass in trespasses(path)] == [True]


@pytest.mark.parametrize("package", WITHOUT_FILES)
def test_mathematics_touches_no_files(package):
    touching = {"os", "io", "pathlib", "shutil", "tempfile", "json", "csv", "pickle"}
    assert [
        f"{path.relative_to(REPOSITORY)}:{line}: {module}"
        for path in sorted((PACKAGE / package).rglob("*.py"))
        for line, module, _ in imports(path)
        if module.split(".")[0] in touching
    ] == []


def modules_after(program):
    listing = f"import sys\n{program}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_and_load_cost_jax_and_flax_and_no_more():
    loaded = modules_after("import clipjax\nclipjax.load, clipjax.tokenize, clipjax.preprocess, clipjax.CLIP")
    assert {"jax", "flax"} <= loaded
    assert not loaded & HEAVY


def test_help_does_not_wait_for_jax():
    program = "import contextlib, io\nfrom clipjax.cli.main import main\n"
    program += "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(['--help'])"
    assert not modules_after(program) & {"jax", "flax", "numpy", "asyncio", *HEAVY}


def test_heavy_imports_stand_inside_functions():
    at_top = [
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in MODULES
        for node in parsed(path).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name]
        if name.partition(".")[0] in [*HEAVY, "rich"]
    ]
    assert at_top == []


def documented(path):
    """Yield every public function, class and method of a module, where it stands and what it is called."""
    for node in parsed(path).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            yield from (m for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_"))


def test_public_functions_say_what_they_do_in_a_sentence():
    # what every subcommand has in common is explained in cli/main.py, once; read() is explained by ImageStore
    shared = {("cli", "add_parser"), ("cli", "run"), ("data", "read")}
    poor = []
    for path in MODULES:
        for node in documented(path):
            if not isinstance(node, ast.FunctionDef) or (room(dotted(path)), node.name) in shared:
                continue
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if not re.match(r"[A-Z`\"].*[.:?]$", first):
                poor.append(f"{path.relative_to(REPOSITORY)}:{node.lineno}: {node.name}: {first!r}")
    assert poor == []


def test_modules_say_what_lives_in_them():
    silent = [str(path.relative_to(REPOSITORY)) for path in MODULES if not ast.get_docstring(parsed(path))]
    assert [path for path in silent if (REPOSITORY / path).stat().st_size] == []


def test_modules_hold_one_idea():
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: length for path, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_modules_are_called_by_what_they_hold():
    assert [path.name for path in MODULES if any(name in path.stem for name in SHAPELESS_NAMES)] == []


def test_project_leaves_no_loose_ends():
    loose = re.compile(r"\b(TODO|FIXME|XXX)\b")
    assert [str(path) for path in MODULES if loose.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("marker", "program"), [("install-and-run", "clipjax quickstart"), ("install-and-test", "pytest -n 2")]
)
def test_readme_has_the_two_commands(marker, program):
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^<!-- {marker} -->\n```(?:bash|sh|console)\n([^\n]+)\n```$", readme, re.MULTILINE)
    assert len(found) == 1
    assert re.fullmatch(r"pip install \S+ && .+", found[0])
    assert found[0].endswith(program)

"""The documents name everything there is, and their commands run."""

import ast
import re
import shlex
from pkgutil import resolve_name

import pytest
from conftest import ROOT

from lmaas.analysis.forecasting.forecaster import FORECASTERS
from lmaas.analysis.formats import FORMATS
from lmaas.analysis.lengths.kinds import PREDICTORS
from lmaas.cli.main import main
from lmaas.cli.reference import reference
from lmaas.policies.registry import POLICIES
from lmaas.replay.profile import CLASSES, DEFAULT, Profile, default_profile, find_profile
from lmaas.replay.routers import ROUTERS
from lmaas.reports.sections import ANALYZE, EVALUATE, FORECAST, LENGTHS

README = (ROOT / "README.md").read_text()
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "sample_traces/README.md")),
    *(ROOT / "docs").glob("*.md"),
]
NO_MODULES = {"lmaas.duckdb", "lmaas.toml", "lmaas.epoch", "lmaas.block_size"}  # files, and keys of a trace's metadata


def test_everything_registered_is_documented():
    pages = {"policies.md": POLICIES, "routers.md": ROUTERS, "formats.md": FORMATS, "lengths.md": PREDICTORS}
    pages["forecasts.md"] = FORECASTERS
    for page, registry in pages.items():
        text = (ROOT / "docs" / page).read_text()
        for name in registry:
            assert f"`{name}`" in text, f"docs/{page} does not name {name}"


def test_the_commands_are_documented_as_they_are():
    """Else: python -m lmaas.cli.reference > docs/commands.md"""
    assert (ROOT / "docs" / "commands.md").read_text() == reference()


def test_links_lead_somewhere():
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def lead_nowhere(names):
    """The dotted names under which nothing can be imported."""
    for dotted in names:
        try:
            resolve_name(dotted)
        except (ImportError, AttributeError):
            yield dotted


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_dotted_names_can_be_imported(page):
    """Those of the text, and what the Python examples import."""
    text = page.read_text()
    registries = (FORMATS, FORECASTERS, ROUTERS, POLICIES, PREDICTORS, ANALYZE, EVALUATE, FORECAST, LENGTHS)
    names = set(re.findall(r"\blmaas(?:\.\w+)+", text)) - NO_MODULES - {registry.group for registry in registries}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert list(lead_nowhere(sorted(names))) == []


def test_what_the_docs_call_can_be_called():
    found = {name for page in PAGES for name in re.findall(r"\b(lmaas(?:\.\w+)+)\(", page.read_text())}
    assert [dotted for dotted in sorted(found) if not callable(resolve_name(dotted))] == []
    assert "lmaas.policies.evaluate" in found


def test_the_map_has_a_row_for_every_file_and_no_other():
    """docs/structure.md, folder by folder; tests proper and __init__ need none."""
    text = (ROOT / "docs" / "structure.md").read_text()
    folders = re.split(r"^### `(.*?)/`$", text, flags=re.MULTILINE)[1:]
    rows = zip(folders[::2], folders[1::2], strict=True)
    row = re.compile(r"^\| `(\w+\.py)` \|", re.MULTILINE)
    said = [f"{folder}/{name}" for folder, part in rows for name in row.findall(part)]
    rooms = ("analysis", "replay", "policies", "reports", "cli", "tests", "benchmarks")
    here = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    here = [path for path in here if not path.name.startswith(("test_", "__init__"))]
    assert sorted(said) == sorted(path.relative_to(ROOT).as_posix() for path in here)


def test_paths_in_the_docs_are_there():
    folders = "analysis|replay|policies|reports|cli|tests|benchmarks|sample_traces"
    for page in PAGES:
        found = set(re.findall(rf"`((?:{folders})/[\w/.-]*)", page.read_text()))
        gone = [path for path in found if "NAME" not in path and not (ROOT / path).exists()]
        assert gone == [], page.name


def test_what_is_not_there_is_found():
    names = [
        "lmaas.policies.evaluated",
        "lmaas.policies.registry.POLICES",
        "lmaas.kernel.jit",
        "lmaas.replay.jit.router",
    ]
    assert list(lead_nowhere(names)) == names[:3]


def test_the_profile_in_the_docs_is_one():
    (text,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "profiles.md").read_text(), re.DOTALL)
    assert Profile.model_validate_json(text).kv_tokens == 445_617


def test_class_defaults_exist():
    for _, name in CLASSES:
        assert find_profile(name).name == name
    assert default_profile("agent-70b").name == "llama-3.1-70b/h100/tp2/fp8"
    assert default_profile("llama-3.1-405B-instruct").model.endswith("405B")
    assert default_profile("gpt-4").name == DEFAULT


def commands():
    """The README's lmaas lines, on small files of the same names."""
    block = README.split("## Your own data")[1].split("```sh\n")[1].split("```")[0]
    return [line.split("  #")[0].strip() for line in block.splitlines() if line.startswith("lmaas")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    azure = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    azure += [f"2023-11-16 18:{k // 60:02}:{k % 60:02}.0000000,{100 + k},{10 + k % 7}" for k in range(600)]
    (tmp_path / "AzureLLMInferenceTrace_conv.csv").write_text("\r\n".join(azure))
    own = ["ts,prompt,gen", *(f"{k * 1000},{100 + k},{10 + k % 7}" for k in range(600))]
    (tmp_path / "log.csv").write_text("\n".join(own) + "\n")
    return tmp_path


def test_the_readmes_commands_run_one_after_another(folder, capsys):
    found = commands()
    assert len(found) == 5
    for command in found:
        assert main(shlex.split(command)[1:]) == 0, (command, capsys.readouterr())


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()

"""The documents name everything there is, and their commands run."""

import re
import shlex

import pytest
from conftest import ROOT

from lmaas.analysis.formats import FORMATS
from lmaas.cli.main import main
from lmaas.policies.registry import POLICIES
from lmaas.replay.profile import CLASSES, DEFAULT, Profile, default_profile, find_profile
from lmaas.replay.routers import ROUTERS

README = (ROOT / "README.md").read_text()


def test_everything_registered_is_documented():
    pages = {"policies.md": POLICIES, "routers.md": ROUTERS, "formats.md": FORMATS}
    for page, registry in pages.items():
        text = (ROOT / "docs" / page).read_text()
        for name in registry:
            assert f"`{name}`" in text, f"docs/{page} does not name {name}"


def test_links_lead_somewhere():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "sample_traces" / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


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
    assert len(found) == 4
    for command in found:
        assert main(shlex.split(command)[1:]) == 0, (command, capsys.readouterr())


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()

"""What tests share: the folder of real data, where there is one."""

from pathlib import Path

import pytest
from hypothesis import settings
from trace_data import reader

settings.register_profile("no clock", deadline=None)  # a busy machine is no failure
settings.load_profile("no clock")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture
def shared() -> Path:
    """The folder with real traces and profiles beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("no real data beside the checkout (../shared)")
    return SHARED


@pytest.fixture
def read(tmp_path):
    """Ingests text, bytes or a file into a workspace of the test's own."""
    return reader(tmp_path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace, in whose folder the command runs."""
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "workspace"

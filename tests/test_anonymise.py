"""`--anonymize`: whoever reads the workspace finds no name, id, text or path, and all that makes it a workload."""

import json

import polars as pl
import pytest
from trace_data import accounted

from lmaas.analysis.anonymise import Anonymiser
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main

HEAD = "request_id,arrival_s,input_tokens,output_tokens,tenant,session_id,parent_id,service,region\n"
ROWS = (
    "req-secret-1,0,10,5,acme-corp,sess-secret,,llama,eu\n"
    "req-secret-2,1,20,5,acme-corp,sess-secret,req-secret-1,llama,us\n"
    "req-secret-3,2,30,5,,,,qwen,us\n"
    "req-secret-4,x,30,5,acme-corp,my secret prompt,,qwen,us\n"
)
SECRETS = (b"secret", b"acme", b"patients")


@pytest.fixture
def read(tmp_path):
    def _read(content: str = HEAD + ROWS, name: str = "log.csv", key: Anonymiser | None = None, home="home"):
        path = tmp_path / "patients" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        key = key or Anonymiser.of(None)
        return ingest(path, Workspace.open(tmp_path / home), anonymiser=key, say=lambda _: None)

    return _read


def keyed(tmp_path, content: str = "0123456789abcdef", **options) -> Anonymiser:
    (tmp_path / "key.txt").write_text(content)
    return Anonymiser.of(tmp_path / "key.txt", **options)


def everything(folder) -> bytes:
    """All bytes under `folder`, Parquet decompressed and as text."""
    found = b""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            found += json.dumps(pl.read_parquet(path).to_dicts()).encode()
            found += json.dumps(pl.read_parquet_metadata(path)).encode()
        found += path.read_bytes() if path.is_file() else b""
    return found


def test_nothing_of_names_ids_text_and_path_is_in_the_workspace(read, tmp_path):
    trace = read()
    kept = everything(tmp_path / "home")
    assert b"llama" in kept
    assert [secret for secret in SECRETS if secret in kept] == []
    assert (trace.meta.source, trace.meta.anonymised) == ("log.csv", True)
    assert any(note.startswith("anonymised: ") for note in trace.meta.notes)
    assert accounted(trace) == 4
    rejects = pl.read_parquet(trace.path.with_name("rejects.parquet"))
    assert rejects.rows() == [(3, "arrival_s not a number", None)]


def test_what_belongs_together_stays_together(read):
    rows = read().table("request_id", "parent_id", "session_id", "tenant").rows()
    (first, no_parent, session, tenant), (second, parent, same, also), (_, *nothing) = rows
    assert parent == first != second
    assert (no_parent, same, also, nothing) == (None, session, tenant, [None] * 3)
    assert len({first, second, session, tenant}) == 4
    assert all(len(value) == 20 for value in (first, second, session, tenant))


def test_the_workload_is_as_it_was(read, tmp_path):
    hashed = read()
    plain = ingest(tmp_path / "patients" / "log.csv", Workspace.open(tmp_path / "plain"), say=lambda _: None)
    columns = ("arrival_s", "input_tokens", "output_tokens", "service", "region", "source_row")
    assert hashed.table(*columns).equals(plain.table(*columns))


def test_services_and_regions_only_where_asked(read, tmp_path):
    trace = read(key=Anonymiser.of(None, names=True))
    services, regions = trace.table("service")["service"], trace.table("region")["region"]
    assert (services.n_unique(), regions.n_unique()) == (2, 2)
    assert b"llama" not in everything(tmp_path / "home")


def test_a_key_of_ones_own_gives_the_same_hashes_and_another_others(read, tmp_path):
    tables = [
        read(key=keyed(tmp_path, content), home=f"h{k}").table()
        for k, content in enumerate(("0123456789abcdef", "0123456789abcdef\n", "another key of mine"))
    ]
    assert tables[0].equals(tables[1])
    assert not set(tables[0]["request_id"]) & set(tables[2]["request_id"])
    assert b"0123456789abcdef" not in everything(tmp_path / "h0")
    random = [read(home=f"r{k}").table("tenant")["tenant"][0] for k in range(2)]
    assert random[0] != random[1]


def test_with_a_random_key_the_same_command_finds_what_is_stored(read, tmp_path):
    assert read().table().equals(read().table())
    ids = {read().meta.trace_id, read(key=keyed(tmp_path)).meta.trace_id}
    assert len(ids) == 2


def test_row_numbers_that_stand_for_ids_stay(read):
    trace = read("arrival_s,input_tokens,output_tokens,tenant\n0,1,1,acme\n")
    assert trace.table("request_id")["request_id"].to_list() == ["0"]


def test_block_hashes_are_hashed_and_prefixes_still_shared(read):
    line = '{"timestamp": %d, "input_length": 600, "output_length": 1, "hash_ids": [7, %d]}\n'
    blocks = read(line % (0, 8) + line % (1, 9), name="t.jsonl").table("block_hashes")["block_hashes"].to_list()
    assert blocks[0][0] == blocks[1][0] not in (7, 8, 9)
    assert blocks[0][1] != blocks[1][1]


def test_several_files_keep_their_names_and_no_folder(read, tmp_path):
    for folder in ("patients/secret-1", "patients/secret-2"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "t.csv").write_text(HEAD + ROWS)
    pattern, home = tmp_path / "patients" / "*" / "t.csv", Workspace.open(tmp_path / "home")
    trace = ingest(pattern, home, anonymiser=Anonymiser.of(None), name="t", say=lambda _: None)
    assert [secret for secret in SECRETS if secret in everything(tmp_path / "home")] == []
    assert pl.read_parquet(trace.path.with_name("files.parquet"))["file"].to_list() == ["1/t.csv", "2/t.csv"]


def test_a_damaged_file_tells_nothing_either(read, tmp_path):
    read(HEAD + ROWS + '"secret, unfinished\n')
    assert b"secret" not in everything(tmp_path / "home")
    with pytest.raises(UserError) as caught:
        read(HEAD + "secret,x,1,1\n")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("content", "words"), [("short", "5 bytes are no key"), (None, "cannot be read")])
def test_a_key_that_is_none_is_refused(tmp_path, content, words):
    if content:
        (tmp_path / "key").write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        Anonymiser.of(tmp_path / "key")
    assert caught.value.code == Exit.USAGE


def test_the_command_and_the_run_say_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    (tmp_path / "log.csv").write_text(HEAD + ROWS)
    assert main(["ingest", "log.csv", "--anonymize", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trace"]["anonymised"] is True
    assert main(["analyze", "-q"]) == 0
    (manifest,) = (tmp_path / "home" / "runs").glob("*/manifest.json")
    assert '"anonymised": true' in manifest.read_text()


def test_a_folder_gives_no_name_and_rows_set_aside_are_told_without_text(read, tmp_path):
    (tmp_path / "patients").mkdir()
    for name in ("conv.csv", "x.csv"):
        (tmp_path / "patients" / name).write_text(HEAD + ROWS)
    home, said = Workspace.open(tmp_path / "home"), []
    trace = ingest(tmp_path / "patients", home, anonymiser=Anonymiser.of(None), say=said.append)
    assert trace.meta.name == "conv" and home.traces()[0]["name"] == "conv"
    assert b"patients" not in everything(tmp_path / "home" / "traces")
    assert trace.meta.rows_set_aside and any("the reasons, without text, in" in line for line in said)

"""Outputs replace nothing but their own earlier self. Dangerous places are only ever put to a recorder of deleting calls."""

import ast
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from symbol_llm.ground import files, locks, outputs
from symbol_llm.ground.errors import Busy, InvalidInput
from symbol_llm.ground.params import Select

ROOT = Path(__file__).parents[2]


def build(out: Path, stage: str = "select", text: str = "new", **inputs: Path | None) -> None:
    with outputs.building(out, stage, Select(), inputs) as draft:
        (draft.folder / "pool.jsonl").write_text(text)
        draft.metrics = {"n_rows": 3.0, "train_s": 1.2}


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def deletions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put a recorder in the place of everything that deletes or moves; nothing is deleted or moved."""
    found: list[str] = []

    def recorder(name: str) -> Callable[..., None]:
        return lambda path, *rest, **more: found.append(f"{name} {path}")

    monkeypatch.setattr(shutil, "rmtree", recorder("rmtree"))
    for name in ("rename", "replace", "unlink", "remove", "rmdir"):
        monkeypatch.setattr(os, name, recorder(name))
    return found


# --- what is written -------------------------------------------------------------------------------------------------


def test_output_holds_what_was_filled_in_and_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("1")
    build(tmp_path / "out", rows=tmp_path / "in", pool=None)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    pool = files.hash_path(tmp_path / "out" / "pool.jsonl")
    assert (manifest["stage"], manifest["files"], manifest["metrics"]) == (
        "select",
        {"pool.jsonl": pool},
        {"n_rows": 3.0},
    )
    assert manifest["inputs"] == {"rows": files.hash_path(tmp_path / "in")}
    assert manifest["output"] == files.hash_path(tmp_path / "out")
    assert manifest["params"]["max_pairs"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


def test_same_stage_replaces_its_output_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    build(tmp_path / "out", text="old")
    build(tmp_path / "out", text="new")
    assert (tmp_path / "out" / "pool.jsonl").read_text() == "new"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["manifest.json", "pool.jsonl"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    build(tmp_path / "out")
    assert (tmp_path / "out" / "pool.jsonl").exists()


@pytest.mark.parametrize("error", [RuntimeError("stop"), ConnectionRefusedError(111, "refused"), KeyboardInterrupt()])
def test_failure_passes_through_and_leaves_the_old_output(tmp_path: Path, error: BaseException) -> None:
    build(tmp_path / "out", text="old")
    before = tree(tmp_path)
    with pytest.raises(type(error)), outputs.building(tmp_path / "out", "select", Select(), {}) as draft:
        (draft.folder / "pool.jsonl").write_text("half")
        raise error
    assert tree(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_full_disk_is_told_with_the_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInput, match="out: cannot be written: No space left"),
        outputs.building(tmp_path / "out", "select", Select(), {}),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_modes_are_the_umasks_and_hard_linked_files_keep_theirs(tmp_path: Path) -> None:
    """Weights are written 0600 by their library; what is linked into an output belongs to somebody else."""
    (tmp_path / "theirs").write_text("w")
    (tmp_path / "theirs").chmod(0o600)
    with outputs.building(tmp_path / "out", "fetch", {}, {}) as draft:
        os.close(os.open(draft.folder / "ours", os.O_CREAT, 0o600))
        os.link(tmp_path / "theirs", draft.folder / "linked")
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "out").iterdir()}
    assert (modes["ours"], modes["linked"]) == (0o666 & ~files.UMASK, 0o600)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~files.UMASK


def test_every_file_is_synced_before_the_old_output_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "out", text="old")
    order: list[str] = []
    real_sync, real_rename, real_remove = os.fsync, os.rename, outputs.remove
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(f"sync {name_of(fd)}"), real_sync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda a, b, **fds: (order.append(f"move {a}"), real_rename(a, b, **fds))[1])
    monkeypatch.setattr(outputs, "remove", lambda folder: (order.append(f"remove {folder.name}"), real_remove(folder)))
    build(tmp_path / "out")
    moved = order.index("move .out.draft")
    assert {"sync pool.jsonl", "sync manifest.json", "sync .out.draft"} <= set(order[:moved])
    assert order.index("move out") == moved - 1
    assert order[moved + 1 :] == [f"sync {tmp_path.name}", "remove .out.old"]


def name_of(fd: int) -> str:
    return Path(os.readlink(f"/proc/self/fd/{fd}")).name


# --- what is refused -------------------------------------------------------------------------------------------------


def theirs(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")


def with_more(folder: Path) -> None:
    build(folder)
    (folder / "notes").mkdir()
    (folder / "notes" / "a.md").write_text("mine")


def with_a_link(folder: Path) -> None:
    build(folder)
    (folder / "link").symlink_to("/etc")


def of_mlflow(folder: Path) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text('{"name": "my web app", "icons": []}')


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (theirs, "holds files that symbol-llm did not write (thesis.tex)"),
        (with_more, "holds files beside the output of the stage 'select' (notes/a.md)"),
        (with_a_link, "holds files beside the output of the stage 'select' (link)"),
        (of_mlflow, "holds files that symbol-llm did not write (manifest.json)"),
        (lambda folder: build(folder, stage="tune"), "holds the output of the stage 'tune', not of 'select'"),
        (lambda folder: folder.write_text("mine"), "is a file"),
        (lambda folder: (folder / "empty").mkdir(parents=True), "holds files that symbol-llm did not write (folders)"),
        (lambda folder: folder.symlink_to("/etc"), "is a symbolic link"),
        (lambda folder: (folder / ".git").mkdir(parents=True), "is the root of a repository"),
    ],
)
def test_what_is_not_the_stages_own_output_is_refused_before_the_work_and_kept(
    tmp_path: Path, make: Callable[[Path], None], told: str
) -> None:
    make(tmp_path / "out")
    before = tree(tmp_path)
    with pytest.raises(InvalidInput, match=re.escape(told)), outputs.building(tmp_path / "out", "select", Select(), {}):
        pytest.fail("the work began")
    assert tree(tmp_path) == before


def test_what_came_while_the_work_was_done_is_kept_and_so_is_the_work(tmp_path: Path) -> None:
    theirs(tmp_path / "out-1")
    with (
        pytest.raises(InvalidInput, match=r"was filled by others meanwhile; what was made lies in '.*/out-2'"),
        outputs.building(tmp_path / "out", "select", Select(), {}) as draft,
    ):
        (draft.folder / "pool.jsonl").write_text("new")
        theirs(tmp_path / "out")
    found = tree(tmp_path)
    assert found.pop("out-2/manifest.json")
    assert found == {"out/thesis.tex": "mine", "out-1/thesis.tex": "mine", "out-2/pool.jsonl": "new"}


@pytest.mark.parametrize(
    ("out", "how"), [("in", "is"), ("in/deep", "lies in"), (".", "contains"), ("in/../in", "is"), ("link", "is a symb")]
)
def test_output_that_meets_an_input_is_refused(tmp_path: Path, out: str, how: str) -> None:
    """`tune tune ts CKPT ts` once deleted the training set that it had just read."""
    work = tmp_path / "work"
    build(work / "in")
    (work / "link").symlink_to(work / "in")
    before = tree(tmp_path)
    with pytest.raises(InvalidInput, match=how):
        build(work / out, training_set=work / "in")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("out", "what"),
    [
        ("/", "the root of the file system"),
        ("//", "the root of the file system"),
        ("", "the working folder"),
        (".", "the working folder"),
        ("./", "the working folder"),
        ("..", "a folder above the working folder"),
        ("deep/../..", "a folder above the working folder"),
        ("~", "a home folder"),
        ("$PASSWD", "a home folder"),
        ("/proc", "a mount point"),
    ],
)
def test_dangerous_place_is_refused_and_nothing_is_deleted_or_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deletions: list[str], out: str, what: str
) -> None:
    import pwd

    here = tmp_path / "home" / "project"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    if out == "$PASSWD":
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("", "", 0, 0, "", str(tmp_path / "p"), "")))
    place = {"~": tmp_path / "elsewhere", "$PASSWD": tmp_path / "p"}.get(out, Path(out))
    with pytest.raises(InvalidInput, match=f"is {what}"):
        outputs.refuse(place, "collect", {})
    with pytest.raises(InvalidInput, match=f"is {what}"), outputs.building(place, "collect", {}, {}):
        pytest.fail("the work began")
    if what != "a mount point":
        for refusing in (outputs.claim, outputs.removable):
            if place.exists():
                with pytest.raises(InvalidInput, match=f"is {what}"):
                    refusing(place)
        monkeypatch.setenv("SYMBOL_LLM_HOME", str(place) or ".")
        with pytest.raises(InvalidInput, match=f"is {what}"):
            outputs.state_dir()
    assert deletions == []


def test_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is not UTF-8"):
        build(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")))


def test_file_is_replaced_only_if_it_is_known(tmp_path: Path) -> None:
    place = tmp_path / "a"
    outputs.refuse_file(place, lambda text: False)
    place.write_text("")
    outputs.refuse_file(place, lambda text: False)
    place.write_text("mine")
    outputs.refuse_file(place, lambda text: text == b"mine")
    with pytest.raises(InvalidInput, match="did not write"):
        outputs.refuse_file(place, lambda text: False)
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(InvalidInput, match="is not a plain file"):
        outputs.refuse_file(tmp_path / "link", lambda text: True)


# --- two at once and half-dead ---------------------------------------------------------------------------------------


def test_links_in_an_old_output_are_not_followed(tmp_path: Path) -> None:
    theirs(tmp_path / "theirs")
    build(tmp_path / "out")
    (tmp_path / "out" / "pool.jsonl").unlink()
    (tmp_path / "out" / "pool.jsonl").symlink_to(tmp_path / "theirs")
    build(tmp_path / "out")
    assert tree(tmp_path)["theirs/thesis.tex"] == "mine"


def test_second_process_on_the_same_output_is_refused(tmp_path: Path) -> None:
    with outputs.building(tmp_path / "out", "select", Select(), {}), pytest.raises(Busy, match="the stage 'select'"):
        build(tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").exists()


def killed(folder: Path, before: str) -> None:
    """Run a process that is killed while it builds `folder/out`."""
    code = f"""
import os, signal, sys
from pathlib import Path
from symbol_llm.ground import outputs
{before}
with outputs.building(Path(sys.argv[1]) / "out", "select", {{}}, {{}}) as draft:
    (draft.folder / "pool.jsonl").write_text("new")
    (draft.folder / "deep").mkdir()
    (draft.folder / "deep" / "half").write_text("half")
    DIE()
"""
    die = "os.kill(os.getpid(), signal.SIGKILL)"
    code = code.replace("DIE()", "pass" if "DIE" in before else die).replace("DIE", die)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=False)
    assert done.returncode == -9


def test_draft_of_a_killed_process_is_taken_over_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    killed(tmp_path, "")
    assert [p.name for p in tmp_path.iterdir()] == [".out.draft"]
    build(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["manifest.json", "pool.jsonl"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert re.search(r"taken over from the stage 'select', process \d+ on .*, which was killed", caplog.text)


@pytest.mark.parametrize(
    ("at", "kept"),
    [
        (
            "real = os.fsync; os.fsync = lambda fd: (DIE if os.path.isdir(sys.argv[1] + '/.out.old') else real(fd))",
            "new",
        ),
        (
            "real = os.rename; os.rename = lambda a, b, **k: (DIE if a == '.out.draft' else real(a, b, **k))",
            "old",
        ),
    ],
)
def test_process_killed_in_the_swap_loses_neither_old_nor_new(tmp_path: Path, at: str, kept: str) -> None:
    build(tmp_path / "out", text="old")
    killed(tmp_path, at)
    with pytest.raises(RuntimeError), outputs.building(tmp_path / "out", "select", Select(), {}):
        raise RuntimeError("stop")
    assert (tmp_path / "out" / "pool.jsonl").read_text() == kept
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


CALLS = ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync", "open", "chmod")
DYING = f"""
def dying(real):
    def call(*arguments, **more):
        global n_left
        n_left -= 1
        if n_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **more)
    return call
for name in {CALLS}:
    setattr(os, name, dying(getattr(os, name)))
"""


def test_killed_before_any_call_on_the_file_system_a_stage_can_be_done_again(tmp_path: Path) -> None:
    """While it takes over from one that was killed, replaces an older output, and cleans up behind itself."""
    build(tmp_path / "out", text="old")
    code = f"""
import os, signal, sys
from pathlib import Path
from symbol_llm.ground import outputs
from symbol_llm.ground.params import Select
for line in sys.stdin:  # each is done by a process of its own, which need not import anything anew
    if not (pid := os.fork()):
        break
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    sys.exit()
n_left = int(line.split()[0])
{DYING}
with outputs.building(Path(sys.argv[1]) / "out", "select", Select(), {{}}) as draft:
    (draft.folder / "deep").mkdir()
    (draft.folder / "deep" / "a").write_text("new")
    (draft.folder / "pool.jsonl").write_text("new")
    if "fail" in line:
        sys.exit(3)
"""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, **pipes) as maker:
        for more in ("", "fail"):
            for n in range(1, 200):
                print(n, more, file=maker.stdin)
                status = int(maker.stdout.readline())
                assert {(p.name, tree(p).get("pool.jsonl")) for p in [tmp_path / "out"] if p.is_dir()} <= {
                    ("out", "old"),
                    ("out", "new"),
                }
                if status != -9:
                    break
            assert (n > 5, status) == (True, 3 if more else 0)
        maker.stdin.close()
    build(tmp_path / "out", text="newest")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert sorted(tree(tmp_path / "out")) == ["manifest.json", "pool.jsonl"]


def test_folder_of_a_users_that_is_called_like_a_draft_is_left_alone(tmp_path: Path) -> None:
    theirs(tmp_path / ".out.draft")
    with pytest.raises(InvalidInput, match="is not a draft of ours"):
        build(tmp_path / "out")
    assert tree(tmp_path) == {".out.draft/thesis.tex": "mine"}
    (tmp_path / ".out.draft" / ".lock").write_text("")  # a lock of somebody else's, as many tools leave them
    with pytest.raises(InvalidInput, match="is not a draft of ours"):
        build(tmp_path / "out")
    assert (tmp_path / ".out.draft" / "thesis.tex").read_text() == "mine"


def test_drafts_of_the_killed_are_removed_and_nothing_that_only_looks_like_one(tmp_path: Path) -> None:
    (tmp_path / "runs" / "1").mkdir(parents=True)
    for name in ("1", "busy"):
        (tmp_path / "runs" / name).mkdir(exist_ok=True)
        killed(tmp_path / "runs" / name, "")
    theirs(tmp_path / "runs" / ".theirs.draft")
    (tmp_path / "runs" / ".theirs.draft" / ".lock").write_text("")
    theirs(tmp_path / "theirs")
    (tmp_path / "runs" / ".link.draft").symlink_to(tmp_path / "runs" / "busy" / ".out.draft")
    build(tmp_path / "runs" / "done")
    with locks.open_held(tmp_path / "runs" / "busy" / ".out.draft" / ".lock", "me"):
        outputs.remove_drafts(tmp_path / "runs")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        ".link.draft",
        ".theirs.draft",
        "1",
        "busy",
        "done",
    ]
    assert list((tmp_path / "runs" / "1").iterdir()) == []
    assert (tmp_path / "runs" / "busy" / ".out.draft" / "pool.jsonl").exists()
    assert (tmp_path / "runs" / ".theirs.draft" / "thesis.tex").exists()


@pytest.mark.parametrize("name", ["weights", "report.html", "log.txt", "mlflow.db"])
def test_users_files_that_are_called_like_state_are_neither_claimed_nor_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "mine"))
    outputs.state_dir()
    with pytest.raises(InvalidInput, match="did not write"):
        outputs.claim(tmp_path / "mine")
    outputs.clean(tmp_path / "mine")
    assert tree(tmp_path) == {f"mine/{name}": "mine"}


# --- what is believed ------------------------------------------------------------------------------------------------


def with_rows(folder: Path) -> Path:
    """Write an output that has rows, a folder in it and a binary file."""
    with outputs.building(folder, "collect", Select(), {}) as draft:
        (draft.folder / "train.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
        (draft.folder / "deep").mkdir()
        (draft.folder / "deep" / "model.safetensors").write_bytes(bytes(range(64)))
        draft.metrics = {"n": 2.0}
    return folder


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def cut(path: Path, left: int) -> None:
    path.write_bytes(path.read_bytes()[:left])


ALTERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped": (lambda f: flip(f / "train.jsonl", 3), "train.jsonl was altered since the stage 'collect' wrote it"),
    "cut at the end of a line": (lambda f: cut(f / "train.jsonl", 9), "train.jsonl was altered"),
    "emptied": (lambda f: cut(f / "train.jsonl", 0), "train.jsonl was altered"),
    "deep": (lambda f: flip(f / "deep" / "model.safetensors", 63), "deep/model.safetensors was altered"),
    "gone": (lambda f: (f / "train.jsonl").unlink(), "train.jsonl, which the stage 'collect' wrote, is missing"),
    "more": (lambda f: (f / "adapter_config.json").touch(), "adapter_config.json was not there when"),
    "manifest emptied": (lambda f: cut(f / "manifest.json", 0), "manifest.json was altered: it is not JSON"),
    "manifest cut": (lambda f: cut(f / "manifest.json", 40), "manifest.json was altered: it is not JSON"),
    "two": (
        lambda f: (flip(f / "train.jsonl", 1), flip(f / "deep" / "model.safetensors", 1)),
        "model.safetensors, train",
    ),  # type: ignore[dict-item, func-returns-value]
}


@pytest.mark.parametrize("how", ALTERED)
def test_input_that_is_not_what_its_stage_wrote_is_refused_before_the_work(tmp_path: Path, how: str) -> None:
    alter, told = ALTERED[how]
    alter(with_rows(tmp_path / "in"))
    before = files.digests(tmp_path)
    with (
        pytest.raises(InvalidInput, match=f"^{tmp_path / 'in'}: .*{re.escape(told)}.*; run .* again"),
        outputs.building(tmp_path / "out", "tune", Select(), {"rows": tmp_path / "in"}),
    ):
        pytest.fail("the work began")
    with pytest.raises(InvalidInput, match=re.escape(told)):
        outputs.copy(tmp_path / "in", tmp_path / "copy") if "manifest" not in how else outputs.verified(tmp_path / "in")
    assert files.digests(tmp_path) == before


def test_no_flipped_bit_of_any_file_of_an_output_is_believed(tmp_path: Path) -> None:
    """One bit of each byte; in the manifest too, where it may break the JSON or change a name or a number."""
    with_rows(tmp_path / "in")
    for path in sorted(p for p in (tmp_path / "in").rglob("*") if p.is_file()):
        whole = path.read_bytes()
        for at in range(len(whole)):
            flip(path, at, bit=at % 7)
            is_harmless = path.name == "manifest.json" and (
                equal_json(path.read_bytes(), whole) or b'"seal"' not in path.read_bytes()
            )
            assert outputs.fault(tmp_path / "in") or is_harmless, (path.name, at)
            path.write_bytes(whole)
        assert outputs.fault(tmp_path / "in") == ""


def equal_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text('{"name": "my web app", "files": [], "stage": "x"}'),
        lambda folder: (folder / "manifest.json").write_text("[1]"),
    ],
)
def test_folder_without_a_manifest_of_ours_is_taken_as_it_is(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(with_rows(tmp_path / "in"))
    flip(tmp_path / "in" / "train.jsonl", 3)
    build(tmp_path / "out", rows=tmp_path / "in", single=tmp_path / "in" / "train.jsonl")
    assert outputs.fault(tmp_path / "out") == ""


def test_hidden_file_that_came_later_does_not_matter(tmp_path: Path) -> None:
    (with_rows(tmp_path / "in") / ".DS_Store").write_text("")
    assert outputs.fault(tmp_path / "in") == ""


@pytest.mark.parametrize("altered", [False, True])
def test_manifest_as_older_versions_wrote_it_is_held_to_its_hash(tmp_path: Path, altered: bool) -> None:
    with_rows(tmp_path / "in")
    manifest = json.loads((tmp_path / "in" / "manifest.json").read_text())
    del manifest["seal"]
    files.write_json(tmp_path / "in" / "manifest.json", manifest | {"files": sorted(manifest["files"])})
    if altered:
        flip(tmp_path / "in" / "train.jsonl", 3)
    told = "its files were altered since the stage 'collect' wrote them"
    assert outputs.fault(tmp_path / "in") == (told if altered else "")


def test_input_that_changes_under_the_work_is_noticed(tmp_path: Path) -> None:
    with_rows(tmp_path / "in")
    with (
        pytest.raises(InvalidInput, match="in: changed while the stage 'tune' read it; run the stage again"),
        outputs.building(tmp_path / "out", "tune", Select(), {"rows": tmp_path / "in"}) as draft,
    ):
        (draft.folder / "a").touch()
        flip(tmp_path / "in" / "train.jsonl", 3)
    assert not (tmp_path / "out").exists()


def test_what_is_made_on_demand_is_to_be_removed(tmp_path: Path) -> None:
    with outputs.building(tmp_path / "in", "convert", {}, {}) as draft:
        (draft.folder / "model.safetensors").write_bytes(b"1234")
    flip(tmp_path / "in" / "model.safetensors", 0)
    with pytest.raises(InvalidInput, match="remove the folder: it is made again when it is needed"):
        outputs.verified(tmp_path / "in")


def test_file_is_read_once_for_its_hash_unless_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("1")
    monkeypatch.setattr(files, "SETTLED_NS", 0)
    files.hash_path(tmp_path)
    n_read = 0
    real = hashlib.file_digest

    def counting(*arguments: object) -> object:
        nonlocal n_read
        n_read += 1
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", counting)
    assert files.hash_path(tmp_path) == files.whole(files.digests(tmp_path))
    assert n_read == 0
    (tmp_path / "a").write_text("22")
    files.hash_path(tmp_path)
    assert n_read == 1


@pytest.mark.parametrize("name", ["../victim.jsonl", "victim.jsonl", "/tmp/x.jsonl", "", 7, "0123456789abcdef.jsonl"])
def test_ledger_of_an_output_goes_when_it_is_read_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: object
) -> None:
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "home"))
    ledgers = outputs.state_dir() / outputs.LEDGERS
    ledgers.mkdir()
    for place in (ledgers / "victim.jsonl", ledgers / "0123456789abcdef.jsonl", tmp_path / "home" / "victim.jsonl"):
        place.touch()
    with outputs.building(tmp_path / "in", "explore", {}, {}) as draft:
        draft.ledger = name  # type: ignore[assignment]
    before = set((tmp_path / "home").rglob("*"))
    build(tmp_path / "out", explored=tmp_path / "in")
    gone = {ledgers / name} if name == "0123456789abcdef.jsonl" else set()
    assert before - set((tmp_path / "home").rglob("*")) == gone


# --- scratch folders -------------------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder for temporary files, empty."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def test_scratch_of_a_killed_run_is_emptied_by_the_next_and_goes_in_the_end(tmp_path: Path, temporary: Path) -> None:
    code = """
import os, signal, sys, tempfile
from pathlib import Path
from symbol_llm.ground import outputs
tempfile.tempdir = sys.argv[1] + "/tmp"
with outputs.scratch(Path(sys.argv[1]) / "home") as folder:
    (folder / "left").mkdir()
    (folder / "left" / "a").touch()
    (folder / "link").symlink_to(sys.argv[1])
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    (killed,) = temporary.iterdir()
    with outputs.scratch(tmp_path / "home") as folder, outputs.scratch(tmp_path / "other") as other:
        assert folder == killed != other
        assert [p.name for p in folder.iterdir()] == [outputs.MARK]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("whose", ["theirs", "open", "link", "file"])
def test_scratch_never_empties_what_is_somebody_elses(tmp_path: Path, temporary: Path, whose: str) -> None:
    with outputs.scratch(tmp_path / "home") as folder:
        pass
    theirs(tmp_path / "theirs")
    if whose == "link":
        folder.symlink_to(tmp_path / "theirs")
    elif whose == "file":
        folder.write_text("mine")
    else:
        shutil.copytree(tmp_path / "theirs", folder)
        folder.chmod(0o777 if whose == "open" else 0o700)
        if whose == "open":
            (folder / outputs.MARK).touch()
    before = tree(tmp_path)
    with pytest.raises(InvalidInput, match="is not ours|cannot be written"), outputs.scratch(tmp_path / "home"):
        pytest.fail("the work began")
    assert tree(tmp_path) == before


# --- new folders -----------------------------------------------------------------------------------------------------


def test_new_folder_is_whole_or_absent_whenever_its_maker_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from symbol_llm.ground import outputs
n_left = int(sys.argv[2])
{DYING}
with outputs.placing_new(Path(sys.argv[1]) / "repo") as folder:
    folder.mkdir()
    (folder / "a").write_text("1")
    (folder / "b").write_text("2")
"""
    for n in range(1, 100):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(n)], cwd=ROOT, check=False)
        if (tmp_path / "repo").is_dir():
            assert tree(tmp_path / "repo") == {"a": "1", "b": "2"}
        if done.returncode != -9:
            break
    assert (n > 5, done.returncode) == (True, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["repo"]


def test_new_folder_does_not_take_the_place_of_one_that_came_meanwhile(tmp_path: Path) -> None:
    with outputs.placing_new(tmp_path / "repo") as folder:
        folder.mkdir()
        theirs(tmp_path / "repo")
    assert tree(tmp_path) == {"repo/thesis.tex": "mine"}


def test_draft_of_somebody_elses_stands_in_the_way_of_a_new_folder(tmp_path: Path) -> None:
    theirs(tmp_path / ".repo.draft")
    with pytest.raises(InvalidInput, match="is not a draft of ours"), outputs.placing_new(tmp_path / "repo"):
        pytest.fail("the work began")
    assert tree(tmp_path) == {".repo.draft/thesis.tex": "mine"}


# --- state and `clean` -----------------------------------------------------------------------------------------------


def test_state_is_marked_where_it_is_new_and_a_users_folder_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs(tmp_path / "theirs")
    for name, marked in (("new", True), ("theirs", False)):
        monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / name))
        assert outputs.state_dir() == tmp_path / name
        assert (tmp_path / name / outputs.MARK).is_file() == marked


def test_folder_of_a_run_is_claimed_once_and_never_taken_from_a_user(tmp_path: Path) -> None:
    assert outputs.claim(tmp_path / "run") == outputs.claim(tmp_path / "run") == tmp_path / "run"
    theirs(tmp_path / "docs")
    with pytest.raises(InvalidInput, match="did not write .thesis.tex."):
        outputs.claim(tmp_path / "docs")
    assert tree(tmp_path / "docs") == {"thesis.tex": "mine"}


def test_clean_removes_what_is_ours_and_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "runs"))
    theirs(tmp_path / "theirs")
    state = outputs.state_dir()
    outputs.claim(state / "default")
    for name in ("weights/a", "mlflow.db", "default/kfp", "default/log.txt"):
        (state / name).parent.mkdir(exist_ok=True)
        (state / name).write_text("ours")
    (state / "my plot.png").write_text("mine")
    (state / "link").symlink_to(tmp_path / "theirs")
    theirs(state / "repository")
    (state / "repository" / ".git").mkdir()
    build(tmp_path / "data" / "round-1" / "selected")
    with_more(tmp_path / "data" / "annotated")
    for folder in ("runs", "data", "theirs"):
        outputs.clean(tmp_path / folder)
    assert tree(tmp_path) == {
        "theirs/thesis.tex": "mine",
        "runs/my plot.png": "mine",
        "runs/repository/thesis.tex": "mine",
        "data/annotated/manifest.json": tree(tmp_path)["data/annotated/manifest.json"],
        "data/annotated/pool.jsonl": "new",
        "data/annotated/notes/a.md": "mine",
    }
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["annotated"]
    assert (tmp_path / "runs" / "link").is_symlink()


def test_clean_of_state_alone_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "runs"))
    outputs.claim(outputs.state_dir() / "default")
    outputs.clean(tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


# --- who may delete --------------------------------------------------------------------------------------------------

DELETING = {
    "rmtree", "unlink", "rmdir", "remove_dir", "removedirs", "rename", "renames", "os.replace", "os.remove", "move",
    "TemporaryDirectory", "truncate",
}  # fmt: skip
MAY = {
    "benchmarks/collection.py": {"main": {"TemporaryDirectory"}},
    "benchmarks/engine.py": {"in_turn": {"TemporaryDirectory"}, "main": {"TemporaryDirectory"}},
    "benchmarks/noise.py": {"again": {"TemporaryDirectory"}},
    "benchmarks/overhead.py": {"local_step": {"TemporaryDirectory"}, "main": {"TemporaryDirectory"}},
    "benchmarks/soak.py": {"main": {"TemporaryDirectory"}},
    "manifests/resources.py": {"render": {"TemporaryDirectory"}},
    "pipelines/local.py": {"run": {"unlink"}},
    "pipelines/settings.py": {"compile_to": {"TemporaryDirectory"}},
    "pipelines/submit.py": {"submit": {"TemporaryDirectory"}},
    "symbol_llm/ground/files.py": {
        "replacing": {"os.replace", "unlink"},
        "_sweep": {"unlink"},
        "_load": {"truncate"},
        "remove_ledger": {"unlink"},
    },
    "symbol_llm/ground/locks.py": {"hold": {"truncate"}},
    "symbol_llm/ground/outputs.py": {
        "_placing": {"unlink"},
        "placing_new": {"rename"},
        "_swap": {"rename"},
        "_restore": {"rename"},
        "_empty": {"unlink"},
        "remove": {"rmtree"},
        "clean": {"unlink", "rmdir"},
    },
    "symbol_llm/sandbox/folders.py": {"remove": {"rmtree"}},
    "symbol_llm/tracking/database.py": {"ready": {"os.replace", "unlink"}},
    "symbol_llm/tracking/git.py": {"_credentials": {"TemporaryDirectory"}},
    "symbol_llm/tracking/versions.py": {"_take_over_locks": {"unlink"}, "ask": {"TemporaryDirectory"}},
}
"""Who may delete, move or cut off files: module, function, call. Add a line only with a test of what it must not touch."""


def deleting_calls(file: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}

    def walk(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            whole = ast.unparse(node.func)
            for name in {node.func.attr, whole} & DELETING:
                found.setdefault(function, set()).add(name)
        for child in ast.iter_child_nodes(node):
            walk(child, function)

    walk(ast.parse(file.read_text()), "the module")
    return found


def test_nobody_deletes_or_moves_files_but_those_who_may() -> None:
    folders = ("symbol_llm", "pipelines", "components", "serving", "manifests", "benchmarks")
    modules = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    found = {str(file.relative_to(ROOT)): calls for file in modules if (calls := deleting_calls(file))}
    assert found == MAY


def test_no_script_removes_folders() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    scripts = [ROOT / name for name in listed if re.search(r"Makefile$|Dockerfile$|\.sh$|^\.ci/|\.yaml$", name)]
    assert len(scripts) > 20
    data = ("tests/", "symbol_llm/tasks/")  # attacks, and commands that a model is asked to write
    names = {str(p.relative_to(ROOT)): p for p in scripts if p.is_file()}
    text = {name: p.read_text() for name, p in names.items() if not name.startswith(data)}
    found = {name: re.findall(r"\brm\s+-\S+\s+\S+|\bfind\b.*-delete", body) for name, body in text.items()}
    assert {name: calls for name, calls in found.items() if calls} == {
        # tests of libraries, in the image that is being built
        "components/images/cpu.Dockerfile": ["rm -r {}", "rm -rf /var/lib/apt/lists/*"],
        "components/images/gpu.Dockerfile": ["rm -rf /var/lib/apt/lists/*"],
        "serving/Dockerfile": ["rm -r {}", "rm -rf /var/lib/apt/lists/*"],
        # the container and the volume that it made, by their names; and `run --rm --user 0`
        "components/images/try.sh": ["rm --force --volumes", "rm --user 0"],
        # old dumps, on the volume that has nothing else, once a new one is whole
        "manifests/components/backup/backup.yaml": [
            "find database -name 'mlflow-*.dump' -mtime \"+$KEEP_DAYS\" -delete"
        ],
    }

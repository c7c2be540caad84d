"""Sets under version with the real git and DVC: one commit a content, and every clone gets the same bytes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from symbol_llm.ground import outputs
from symbol_llm.ground.errors import InvalidInput, Unavailable
from symbol_llm.tracking import versions

TRAIN = '{"id": 1}\n'


@pytest.fixture
def data_repo(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty data repository in the state folder."""
    monkeypatch.delenv(versions.REPO_VARIABLE, raising=False)
    return versions.repository()


def a_set(folder: Path, text: str = TRAIN) -> Path:
    with outputs.building(folder, "collect", {}, {}) as draft:
        (draft.folder / "nested").mkdir()
        (draft.folder / "train.jsonl").write_text(text)
        (draft.folder / "nested" / "card.md").write_text("# Card\n")
    return folder


def git(folder: Path, *arguments: str) -> list[str]:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.split()


def commits(repo: Path) -> int:
    return len(git(repo, "rev-list", "HEAD"))


def test_new_repository_has_one_commit_and_a_folder_as_its_remote(data_repo: Path, home: Path) -> None:
    assert data_repo == home / "data-repo"
    assert commits(data_repo) == 1
    assert git(data_repo, "status", "--porcelain") == []
    with Repo(str(data_repo)) as repo:
        assert repo.config["core"]["remote"] == "storage"
        assert repo.config["remote"]["storage"]["url"] == str(home / "data-repo-remote")
        assert repo.config["core"]["analytics"] is False


def test_set_gets_a_commit_a_tag_and_a_hash(data_repo: Path, tmp_path: Path) -> None:
    kept = versions.record("collection", a_set(tmp_path / "in"))
    assert kept.dvc_md5.endswith(".dir")
    assert kept.tag == f"collection-{kept.dvc_md5[:12]}"
    assert git(data_repo, "rev-parse", "HEAD", kept.tag) == [kept.revision, kept.revision]
    assert git(data_repo, "show", "--name-only", "--format=", "HEAD") == ["data/.gitignore", "data/collection.dvc"]


@pytest.mark.parametrize("name", ["../../docs", "/tmp/x", "a/../../b", "", "a//b", ".git/hooks", "a/.."])
def test_name_that_leads_out_of_the_repository_is_refused(data_repo: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="expected words joined by"):
        versions.record(name, a_set(tmp_path / "in"))
    assert commits(data_repo) == 1


def test_folder_that_no_stage_wrote_is_not_recorded(data_repo: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(InvalidInput, match=r"no manifest.json of ours"):
        versions.record("collection", tmp_path / "in")


def test_users_files_in_the_repository_are_not_replaced(data_repo: Path, tmp_path: Path) -> None:
    (data_repo / "data" / "collection").mkdir(parents=True)
    (data_repo / "data" / "collection" / "mine.csv").write_text("1,2\n")
    with pytest.raises(InvalidInput, match=r"did not write \(mine.csv\)"):
        versions.record("collection", a_set(tmp_path / "in"))
    assert (data_repo / "data" / "collection" / "mine.csv").read_text() == "1,2\n"


def test_users_folder_is_not_made_a_repository(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files would all be committed."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.tex").write_text("mine")
    monkeypatch.setenv(versions.REPO_VARIABLE, str(tmp_path / "docs"))
    with pytest.raises(InvalidInput, match="expected a repository of git and DVC, or a folder that is empty or absent"):
        versions.repository()
    assert [p.name for p in (tmp_path / "docs").iterdir()] == ["thesis.tex"]


def test_same_content_twice_is_one_commit(data_repo: Path, tmp_path: Path) -> None:
    first = versions.record("collection", a_set(tmp_path / "in"))
    again = versions.record("collection", a_set(tmp_path / "elsewhere"))
    assert again == first
    assert (commits(data_repo), git(data_repo, "tag")) == (2, [first.tag])


def test_changed_content_is_another_commit_and_tag(data_repo: Path, tmp_path: Path) -> None:
    first = versions.record("collection", a_set(tmp_path / "in"))
    second = versions.record("collection", a_set(tmp_path / "in", '{"id": 2}\n'))
    assert first.dvc_md5 != second.dvc_md5
    assert commits(data_repo) == 3
    assert git(data_repo, "tag") == sorted([first.tag, second.tag])
    assert git(data_repo, "rev-parse", f"{second.tag}^") == [first.revision]


def test_sets_of_rounds_lie_side_by_side(data_repo: Path, tmp_path: Path) -> None:
    first = versions.record("rounds/1", a_set(tmp_path / "in"))
    second = versions.record("rounds/2", a_set(tmp_path / "in"))
    assert first.dvc_md5 == second.dvc_md5
    assert (first.tag, second.tag) == (f"rounds-1-{first.dvc_md5[:12]}", f"rounds-2-{first.dvc_md5[:12]}")
    assert commits(data_repo) == 3
    assert sorted(p.name for p in (data_repo / "data" / "rounds").glob("*.dvc")) == ["1.dvc", "2.dvc"]


def test_pull_in_a_fresh_clone_brings_the_same_bytes_under_the_same_hash(data_repo: Path, tmp_path: Path) -> None:
    kept = versions.record("collection", a_set(tmp_path / "in"))
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(data_repo), str(clone))
    shutil.rmtree(data_repo)  # so that the remote alone can give it
    assert not (clone / "data" / "collection").exists()
    with Repo(str(clone)) as repo:
        repo.pull()
    assert (clone / "data" / "collection" / "train.jsonl").read_text() == TRAIN
    assert (clone / "data" / "collection" / "nested" / "card.md").read_text() == "# Card\n"
    assert yaml.safe_load((clone / "data" / "collection.dvc").read_text())["outs"][0]["md5"] == kept.dvc_md5


def test_earlier_version_comes_back_by_its_tag(data_repo: Path, tmp_path: Path) -> None:
    first = versions.record("collection", a_set(tmp_path / "in"))
    versions.record("collection", a_set(tmp_path / "in", "changed\n"))
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--branch", first.tag, str(data_repo), str(clone))
    with Repo(str(clone)) as repo:
        repo.pull()
    assert (clone / "data" / "collection" / "train.jsonl").read_text() == TRAIN


def test_other_work_in_progress_in_the_repository_is_left_alone(data_repo: Path, tmp_path: Path) -> None:
    """Somebody edits a file that is under git while the same set is recorded again."""
    first = versions.record("collection", a_set(tmp_path / "in"))
    with (data_repo / ".dvcignore").open("a") as out:
        out.write("# mine\n")
    assert versions.record("collection", a_set(tmp_path / "in")) == first
    assert git(data_repo, "status", "--porcelain") == ["M", ".dvcignore"]


@pytest.fixture
def shared(data_repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a bare repository that is named by its URL."""
    git(tmp_path, "clone", "--quiet", "--bare", str(data_repo), "bare.git")
    monkeypatch.setenv(versions.REPO_VARIABLE, (tmp_path / "bare.git").as_uri())
    return tmp_path / "bare.git"


def test_repository_named_by_url_is_cloned_and_pushed_to(shared: Path, home: Path, tmp_path: Path) -> None:
    first = versions.record("collection", a_set(tmp_path / "in"))
    second = versions.record("collection", a_set(tmp_path / "in", "changed\n"))
    assert versions.repository() == home / "data-clone"
    assert git(shared, "rev-parse", "main", "main^", second.tag, first.tag) == [r.revision for r in (second, first)] * 2


def test_repository_named_by_url_is_cloned_where_there_is_no_state_yet(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "new"))
    assert versions.repository() == tmp_path / "new" / "data-clone"


def test_recording_prints_nothing(home: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from symbol_llm.tracking import versions; versions.record('set', Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(a_set(tmp_path / "in"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


# --- killed and left behind --------------------------------------------------------------------------------------------

KILLED = """
import os, signal, subprocess, sys
from pathlib import Path
from symbol_llm.tracking import versions
n_left = int(sys.argv[2])
def dying(real):
    def call(*arguments, **more):
        global n_left
        n_left -= 1
        if n_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **more)
    return call
versions._git, versions._add = dying(versions._git), dying(versions._add)
versions.record("set", Path(sys.argv[1]))
"""


@pytest.mark.parametrize("shared_by_url", [False, True])
def test_recording_killed_before_any_step_goes_on_the_next_time(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_by_url: bool
) -> None:
    """From the first one, which makes the repository, or clones it."""
    if shared_by_url:
        versions.repository()
        git(tmp_path, "clone", "--quiet", "--bare", str(home / "data-repo"), "bare.git")
        monkeypatch.setenv(versions.REPO_VARIABLE, (tmp_path / "bare.git").as_uri())
    folder = a_set(tmp_path / "in")
    for n in range(1, 60):
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(n)], check=False)
        if done.returncode != -9:
            break
    assert (n > 5, done.returncode) == (True, 0)
    repo = versions.repository()
    kept = versions.record("set", folder)
    assert git(repo, "rev-parse", "HEAD", kept.tag) == [kept.revision, kept.revision]
    assert (commits(repo), git(repo, "status", "--porcelain")) == (2, [])
    assert {p.name for p in home.iterdir() if p.name.startswith(".")} <= {outputs.MARK}
    if shared_by_url:
        assert git(tmp_path / "bare.git", "rev-parse", "main", kept.tag) == [kept.revision, kept.revision]


LOCK_FILES = ("index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "refs/heads/main.lock")


def test_lock_files_of_a_git_that_was_killed_are_taken_over_and_said(
    data_repo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in LOCK_FILES:
        (data_repo / ".git" / name).touch()
    (data_repo / "data.lock").touch()
    (data_repo / ".git" / "ORIG_HEAD.lock").symlink_to(data_repo / "data.lock")
    kept = versions.record("collection", a_set(tmp_path / "in"))
    assert git(data_repo, "rev-parse", "HEAD") == [kept.revision]
    assert [name for name in LOCK_FILES if f"{name}: taken over from a git that was killed" not in caplog.text] == []
    assert [name for name in LOCK_FILES if (data_repo / ".git" / name).exists()] == []
    assert (data_repo / "data.lock").exists()
    assert (data_repo / ".git" / "ORIG_HEAD.lock").is_symlink()


@pytest.mark.parametrize("how", ["has it open", "is a git that works there"])
def test_lock_file_of_a_process_that_lives_is_left_alone(data_repo: Path, tmp_path: Path, how: str) -> None:
    lock = data_repo / ".git" / "index.lock"
    lock.touch()
    command = ["git", "-C", str(data_repo), "cat-file", "--batch"]
    if how == "has it open":
        command = [sys.executable, "-c", f"f = open({str(lock)!r}); print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        owner.stdin.write("HEAD\n" if command[0] == "git" else "")
        owner.stdin.flush()
        owner.stdout.readline()
        with pytest.raises(Unavailable, match=r"index\.lock"):
            versions.record("collection", a_set(tmp_path / "in"))
        assert lock.exists()
        owner.communicate("\n")
    versions.record("collection", tmp_path / "in")
    assert not lock.exists()


def test_user_whom_the_machine_does_not_know_can_record(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    code = """
import pwd, sys
from pathlib import Path
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
from symbol_llm.tracking import versions
print(versions.record("set", Path(sys.argv[1])).tag)
"""
    command = [sys.executable, "-c", code, str(a_set(tmp_path / "in"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:4], done.stderr) == (0, "set-", "")


def test_set_that_was_altered_is_not_recorded(data_repo: Path, tmp_path: Path) -> None:
    folder = a_set(tmp_path / "in")
    (folder / "train.jsonl").write_text("changed")
    with pytest.raises(InvalidInput, match="in: train.jsonl was altered since the stage 'collect' wrote it"):
        versions.record("collection", folder)
    assert commits(data_repo) == 1

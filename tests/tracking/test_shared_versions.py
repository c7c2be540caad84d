"""A data repository that several share: real git over HTTP with a token, and a real S3-compatible store as DVC's remote."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from symbol_llm.ground import outputs
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError, Unavailable
from symbol_llm.tracking import git, store, versions
from tests import git_server, services

TOKEN = "swordfish"


def a_set(folder: Path, text: str = "1\n") -> Path:
    with outputs.building(folder, "collect", {}, {}) as draft:
        (draft.folder / "nested").mkdir()
        (draft.folder / "train.jsonl").write_text(text)
        (draft.folder / "nested" / "card.md").write_text("# Card\n")
    return folder


def said(folder: Path, *arguments: str) -> list[str]:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.split()


def an_empty_repository(folder: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=trunk", str(folder)], check=True)
    return folder


@pytest.fixture
def bare(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty repository that tasks know by its URL, with a folder as DVC's remote."""
    for name in (git.KEY_VARIABLE, git.TOKEN_VARIABLE, git.HOSTS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    repo = an_empty_repository(tmp_path / "data.git")
    monkeypatch.setenv(versions.REPO_VARIABLE, repo.as_uri())
    monkeypatch.setenv(versions.REMOTE_VARIABLE, str(tmp_path / "remote"))
    return repo


@pytest.fixture
def by_http(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the repository behind a server that asks for a token."""
    with git_server.serving(tmp_path, "git", TOKEN) as address:
        monkeypatch.setenv(versions.REPO_VARIABLE, f"{address}/data.git")
        monkeypatch.setenv(git.TOKEN_VARIABLE, TOKEN)
        yield bare


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with services.object_store() as found:
        yield found


@pytest.fixture
def s3(bare: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have DVC's remote in the store, and give a client of it."""
    monkeypatch.setenv(versions.REMOTE_VARIABLE, f"s3://{services.BUCKET}/{bare.parent.name}")
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": services.KEY,
        "AWS_SECRET_ACCESS_KEY": services.SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return services.client(address)


def one_line(call: Any, kind: type[SymbolLLMError]) -> str:
    with pytest.raises(kind) as found:
        call()
    assert "\n" not in str(found.value)
    return str(found.value)


def test_empty_repository_is_begun_and_a_clone_elsewhere_pulls_the_bytes(
    by_http: Path, home: Path, tmp_path: Path
) -> None:
    first = versions.record("collection", a_set(tmp_path / "in"))
    second = versions.record("round-1/selected", a_set(tmp_path / "in", "2\n"))
    assert (
        said(by_http, "log", "--format=%s", "trunk")
        == "Record round-1/selected Record collection Begin the data repository".split()
    )
    assert (
        said(by_http, "rev-parse", "trunk", "trunk^", second.tag, first.tag)
        == [r.revision for r in (second, first)] * 2
    )
    shutil.rmtree(home)  # so that the server and the remote alone can give it
    said(tmp_path, "clone", "--quiet", "--branch", second.tag, str(by_http), "elsewhere")
    with Repo(str(tmp_path / "elsewhere")) as repo:
        repo.pull()
    assert (tmp_path / "elsewhere/data/collection/train.jsonl").read_text() == "1\n"
    assert (tmp_path / "elsewhere/data/round-1/selected/train.jsonl").read_text() == "2\n"


def test_empty_repository_without_a_remote_for_the_files_is_refused(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(versions.REMOTE_VARIABLE)
    assert "SYMBOL_LLM_DATA_REMOTE=s3://bucket/dvc" in one_line(versions.repository, InvalidInput)


def test_repository_without_dvc_is_not_made_one(bare: Path, tmp_path: Path) -> None:
    said(tmp_path, "clone", "--quiet", str(bare), "theirs")
    (tmp_path / "theirs" / "thesis.tex").write_text("mine")
    said(tmp_path / "theirs", "add", "thesis.tex")
    said(tmp_path / "theirs", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "Mine")
    said(tmp_path / "theirs", "push", "--quiet", "origin", "HEAD")
    assert "a repository of git alone" in one_line(versions.repository, InvalidInput)
    assert said(bare, "log", "--format=%s", "trunk") == ["Mine"]


def test_remote_that_clones_do_not_know_is_refused(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions.repository()
    monkeypatch.setenv(versions.REMOTE_VARIABLE, "s3://other/dvc")
    message = one_line(lambda: versions.record("collection", a_set(tmp_path / "in")), InvalidInput)
    assert f"has its files at {tmp_path / 'remote'}" in message
    assert said(bare, "rev-list", "--count", "trunk") == ["1"]


# --- several writers ---------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from symbol_llm.tracking import versions
for name in sys.argv[2:]:
    print(versions.record(name, Path(sys.argv[1])).tag)
"""


def started(folder: Path, home: Path, *names: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), *names]
    environment = os.environ | {"SYMBOL_LLM_HOME": str(home)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("homes", [("one", "two"), ("one", "one")])
def test_sets_of_writers_at_once_all_arrive_in_one_line(by_http: Path, tmp_path: Path, homes: tuple[str, str]) -> None:
    """From the empty repository on, on machines of their own or on one; a name that both record has both contents."""
    writers = [
        started(a_set(tmp_path / "a", "a\n"), tmp_path / homes[0], "collection", "a/1"),
        started(a_set(tmp_path / "b", "b\n"), tmp_path / homes[1], "collection", "b/1"),
    ]
    done = [writer.communicate(timeout=200) for writer in writers]
    assert [(writer.returncode, err) for writer, (_, err) in zip(writers, done, strict=True)] == [(0, ""), (0, "")]
    tags = [tag for out, _ in done for tag in out.split()]
    assert (len(set(tags)), sorted(said(by_http, "tag"))) == (4, sorted(tags))
    assert said(by_http, "rev-list", "--count", "trunk") == ["5"]
    assert said(by_http, "rev-list", "--merges", "trunk") == []
    said(tmp_path, "clone", "--quiet", str(by_http), "elsewhere")
    for at in (*tags, "trunk"):
        said(tmp_path / "elsewhere", "checkout", "--quiet", at)
        with Repo(str(tmp_path / "elsewhere")) as repo:
            repo.pull()
    assert (tmp_path / "elsewhere/data/.gitignore").read_text().split() == ["/collection"]
    assert {(tmp_path / f"elsewhere/data/{name}/1/train.jsonl").read_text() for name in "ab"} == {"a\n", "b\n"}


def others_push_before_every_push(monkeypatch: pytest.MonkeyPatch, bare: Path, folder: Path, n_times: int) -> list[int]:
    """Have a commit of somebody else arrive before each of the next pushes; return where their number is kept."""
    real, seen = versions._git, []

    def faster(repo: Path, *arguments: str) -> str:
        if arguments[0] == "push" and len(seen) < n_times:
            seen.append(1)
            said(folder, "pull", "--quiet", "--rebase")
            said(
                folder,
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b.c",
                "commit",
                "--quiet",
                "--allow-empty",
                "--message",
                "Theirs",
            )
            said(folder, "push", "--quiet")
        return real(repo, *arguments)

    monkeypatch.setattr(versions, "_git", faster)
    monkeypatch.setattr(versions, "WAITS_S", (0.0, 0.0, 0.0))
    return seen


@pytest.fixture
def theirs(bare: Path, tmp_path: Path) -> Path:
    """Give somebody else's clone of the repository."""
    versions.repository()
    said(tmp_path, "clone", "--quiet", str(bare), "theirs")
    return tmp_path / "theirs"


def test_commit_is_put_upon_those_that_came_in_between(
    bare: Path, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = others_push_before_every_push(monkeypatch, bare, theirs, 2)
    kept = versions.record("collection", a_set(tmp_path / "in"))
    assert len(seen) == 2
    assert (
        said(bare, "log", "--format=%s", "trunk") == "Record collection Theirs Theirs Begin the data repository".split()
    )
    assert said(bare, "rev-parse", "trunk", kept.tag) == [kept.revision] * 2


def test_tries_have_an_end_and_the_set_arrives_the_next_time(
    bare: Path, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = others_push_before_every_push(monkeypatch, bare, theirs, 4)
    message = one_line(lambda: versions.record("collection", a_set(tmp_path / "in")), Unavailable)
    assert (len(seen), "others pushed to it meanwhile" in message, said(bare, "tag")) == (4, True, [])
    other = versions.record("other", a_set(tmp_path / "in", "2\n"))
    assert said(bare, "log", "-2", "--format=%s", "trunk") == ["Record", "other", "Record", "collection"]
    assert [tag.partition("-")[0] for tag in said(bare, "tag")] == ["collection", "other"]
    assert said(bare, "rev-parse", other.tag) == [other.revision]


def test_content_that_comes_back_is_a_commit_with_the_tag_it_had(bare: Path, tmp_path: Path) -> None:
    first = versions.record("collection", a_set(tmp_path / "in"))
    versions.record("collection", a_set(tmp_path / "in", "2\n"))
    third = versions.record("collection", a_set(tmp_path / "in"))
    assert (third.tag, third.dvc_md5, said(bare, "rev-parse", "trunk")) == (first.tag, first.dvc_md5, [third.revision])
    assert said(bare, "rev-parse", first.tag) == [first.revision]


# --- the store ---------------------------------------------------------------------------------------------------------


def test_set_in_the_store_is_pulled_as_dvc_lays_it_out(bare: Path, s3: Any, home: Path, tmp_path: Path) -> None:
    """DVC itself reads a copy of the bucket: its plug-in for S3 does not go with our boto3."""
    kept = versions.record("collection", a_set(tmp_path / "in"))
    prefix = f"{bare.parent.name}/"
    objects = s3.list_objects_v2(Bucket=services.BUCKET, Prefix=prefix)["Contents"]
    assert len(objects) == 4  # two files, the manifest, and the list of them
    for one in objects:
        file = tmp_path / "mirror" / one["Key"].removeprefix(prefix)
        file.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(services.BUCKET, one["Key"], str(file))
    said(tmp_path, "clone", "--quiet", "--branch", kept.tag, str(bare), "elsewhere")
    shutil.rmtree(home)
    with Repo(str(tmp_path / "elsewhere")) as repo:
        assert repo.config["remote"]["storage"]["url"] == f"s3://{services.BUCKET}/{bare.parent.name}"
        with repo.config.edit("local") as config:
            config["remote"] = {"storage": {"url": str(tmp_path / "mirror")}}
    with Repo(str(tmp_path / "elsewhere")) as repo:
        repo.pull()
    assert (tmp_path / "elsewhere/data/collection/nested/card.md").read_text() == "# Card\n"


PUSH_KILLED = """
import os, signal, sys
from pathlib import Path
from symbol_llm.tracking import store, versions
real, n_left = store._client, int(sys.argv[2])
class Dying:
    def __init__(self, client):
        self.client = client
    def __getattr__(self, name):
        global n_left
        n_left -= name == "upload_file"
        if n_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(self.client, name)
store._client = lambda remote: Dying(real(remote))
versions.record("collection", Path(sys.argv[1]))
"""


def test_push_that_was_killed_is_completed_and_nothing_is_sent_twice(bare: Path, s3: Any, tmp_path: Path) -> None:
    folder, sent = a_set(tmp_path / "in"), []
    for n in (1, 3):
        command = [sys.executable, "-c", PUSH_KILLED, str(folder), str(n - len(sent))]
        assert subprocess.run(command, check=False).returncode == -9
        found = s3.list_objects_v2(Bucket=services.BUCKET, Prefix=f"{bare.parent.name}/")["Contents"]
        assert len(found) == n
        assert not any(one["Key"].endswith(".dir") for one in found)
        sent = found
    assert said(bare, "tag") == []
    kept = versions.record("collection", folder)
    after = s3.list_objects_v2(Bucket=services.BUCKET, Prefix=f"{bare.parent.name}/")["Contents"]
    before = {one["Key"]: one["LastModified"] for one in sent}
    assert {one["Key"]: one["LastModified"] for one in after if one["Key"] in before} == before
    assert [one["Key"][-4:] for one in after if one["Key"] not in before] == [".dir"]
    assert said(bare, "rev-parse", "trunk", kept.tag) == [kept.revision] * 2


@pytest.mark.parametrize(
    ("variable", "value", "kind", "wanted"),
    [
        (
            versions.REMOTE_VARIABLE,
            "s3://nowhere-to-be/dvc",
            InvalidInput,
            "there is no bucket 'nowhere-to-be'; make it",
        ),
        ("AWS_SECRET_ACCESS_KEY", "wrong", InvalidInput, "the store refuses the keys; AWS_ACCESS_KEY_ID and"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", Unavailable, "check AWS_ENDPOINT_URL"),
    ],
)
def test_store_that_takes_nothing_is_said_in_a_line(
    bare: Path,
    s3: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    kind: type[SymbolLLMError],
    wanted: str,
) -> None:
    monkeypatch.setenv(variable, value)
    message = one_line(lambda: versions.record("collection", a_set(tmp_path / "in")), kind)
    assert re.search(f"^DVC remote s3://.*{re.escape(wanted)}", message)
    assert said(bare, "rev-list", "--count", "trunk") == ["1"]


def test_store_without_keys_is_said_in_a_line(
    bare: Path, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "refuses the keys" in one_line(lambda: versions.record("c", a_set(tmp_path / "in")), InvalidInput)


# --- asking ------------------------------------------------------------------------------------------------------------


def test_asking_says_where_sets_go_and_changes_nothing(
    by_http: Path, s3: Any, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = versions.ask()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/data\.git, files at s3://symbol-llm/\S+", told)
    assert said(by_http, "for-each-ref") == []
    versions.record("collection", a_set(tmp_path / "in"))
    before = said(by_http, "for-each-ref"), sorted(path.name for path in home.rglob("*"))
    monkeypatch.delenv(versions.REMOTE_VARIABLE)  # which the repository knows by now
    assert versions.ask() == told
    assert (said(by_http, "for-each-ref"), sorted(path.name for path in home.rglob("*"))) == before


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        (git.TOKEN_VARIABLE, "wrong", "access is refused; put a deploy key that may write into SYMBOL_LLM_DATA_KEY"),
        (versions.REMOTE_VARIABLE, "", "the repository is empty; say where its files go: SYMBOL_LLM_DATA_REMOTE="),
        (versions.REMOTE_VARIABLE, "s3://nowhere-to-be/dvc", "there is no bucket 'nowhere-to-be'; make it"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the store refuses the keys"),
    ],
)
def test_asking_says_in_a_line_what_recording_would_fail_for(
    by_http: Path, s3: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert wanted in one_line(versions.ask, InvalidInput)


# --- access to git -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["wrong", "someone:wrong", None])
def test_token_that_is_refused_is_said_in_a_line_without_it(
    by_http: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    if token:
        monkeypatch.setenv(git.TOKEN_VARIABLE, token)
    else:
        monkeypatch.delenv(git.TOKEN_VARIABLE)
    message = one_line(versions.repository, InvalidInput)
    assert "access is refused" in message
    assert git.TOKEN_VARIABLE in message
    assert "wrong" not in message


def test_token_may_name_its_user_and_goes_to_no_other_host(
    by_http: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(git.TOKEN_VARIABLE, f"git:{TOKEN}\n")
    assert versions.repository() == home / "data-clone"
    assert TOKEN not in (home / "data-clone" / ".git" / "config").read_text()
    with pytest.raises(InvalidInput, match="access is refused"):
        git.run(home, "ls-remote", os.environ[versions.REPO_VARIABLE].replace("127.0.0.1", "localhost"))


def test_password_in_the_address_is_not_shown(by_http: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(git.TOKEN_VARIABLE)
    monkeypatch.setenv(versions.REPO_VARIABLE, os.environ[versions.REPO_VARIABLE].replace("//", "//me:hunter2@"))
    assert "hunter2" not in one_line(versions.repository, InvalidInput)


@pytest.mark.parametrize(
    ("address", "kind", "wanted"),
    [
        (
            "http://127.0.0.1:9/data.git",
            Unavailable,
            "it does not answer; check SYMBOL_LLM_DATA_REPO, and that a NetworkPolicy",
        ),
        ("file:///nowhere/data.git", InvalidInput, "there is no repository; make it"),
        ("{server}/other.git", InvalidInput, "there is no repository; make it"),
    ],
)
def test_repository_that_is_not_there_is_said_in_a_line(
    by_http: Path, monkeypatch: pytest.MonkeyPatch, address: str, kind: type[SymbolLLMError], wanted: str
) -> None:
    server = os.environ[versions.REPO_VARIABLE].removesuffix("/data.git")
    monkeypatch.setenv(versions.REPO_VARIABLE, address.format(server=server))
    assert wanted in one_line(versions.repository, kind)


def test_branch_that_may_not_be_pushed_to_is_not_tried_again(bare: Path, tmp_path: Path) -> None:
    versions.repository()
    hook = bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho asked >> asked\necho protected >&2\nexit 1\n")
    hook.chmod(0o755)
    message = one_line(lambda: versions.record("collection", a_set(tmp_path / "in")), InvalidInput)
    assert "the server refuses pushes to this branch" in message
    assert (bare / "asked").read_text() == "asked\n"


SSH = """#!/bin/sh
# Stands in for ssh: looks at what it is given, and runs git's side of the server here.
for word; do
  case $previous in -i) stat -c %a "$word" >> LOG; cat "$word" >> LOG;; esac
  case $word in UserKnownHostsFile=*) cat "${word#*=}" >> LOG;; StrictHostKeyChecking=*|BatchMode=*) echo "$word" >> LOG;; esac
  previous=$word
done
if test -e FAILS; then cat FAILS >&2; exit 255; fi
exec sh -c "$previous"
"""


@pytest.fixture
def ssh(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have git reach the repository by a stand-in for ssh; give the folder of its log."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ssh"
    program.write_text(SSH.replace("LOG", str(tmp_path / "log")).replace("FAILS", str(tmp_path / "fails")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(versions.REPO_VARIABLE, f"git@git.example.org:{bare}")
    monkeypatch.setenv(git.KEY_VARIABLE, "a private key")
    monkeypatch.setenv(git.HOSTS_VARIABLE, "git.example.org ssh-ed25519 AAAA")
    return tmp_path


def test_deploy_key_and_known_hosts_go_to_ssh_in_files_that_are_gone_after(
    ssh: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ssh / "temporary").mkdir()
    (ssh / "temporary" / "symbol-llm-key-mine").write_text("somebody else's")
    monkeypatch.setattr(tempfile, "tempdir", str(ssh / "temporary"))
    kept = versions.record("collection", a_set(ssh / "in"))
    assert said(bare, "rev-parse", "trunk") == [kept.revision]
    told = (ssh / "log").read_text().splitlines()
    asked = ["BatchMode=yes", "StrictHostKeyChecking=yes", "600", "a private key", "git.example.org ssh-ed25519 AAAA"]
    assert (told[:5], len(told) % 5) == (asked, 0)
    assert [file.name for file in (ssh / "temporary").iterdir()] == ["symbol-llm-key-mine"]


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        (
            "git@git.example.org: Permission denied (publickey).",
            "put a deploy key that may write into SYMBOL_LLM_DATA_KEY",
        ),
        (
            "Host key verification failed.",
            "put what `ssh-keyscan` says of it, once checked, into SYMBOL_LLM_DATA_KNOWN_HOSTS",
        ),
        ("ERROR: The key you are authenticating with has been marked as read only.", "a deploy key that may write"),
    ],
)
def test_what_ssh_refuses_is_said_in_a_line(ssh: Path, fault: str, wanted: str) -> None:
    (ssh / "fails").write_text(f"{fault}\r\nfatal: Could not read from remote repository.\n")
    assert wanted in one_line(versions.repository, InvalidInput)


def test_store_module_says_what_boto3_is_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "boto3.exceptions", None)
    assert "symbol-llm[versions]" in one_line(
        lambda: store.push(tmp_path, "0" * 32, {"url": "s3://b/p"}), SymbolLLMError
    )

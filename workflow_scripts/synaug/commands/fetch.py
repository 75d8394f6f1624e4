"""`synaug fetch`: download what a config names, so that its jobs run without a network."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any
from urllib.error import URLError

import typer

from synaug.config import Config, load_config, read_config_file
from synaug.downloads import Download, downloads_of, each_once
from synaug.runtime.disk import space_for
from synaug.runtime.errors import ERROR_PREFIX, UserError, causes, short_text
from synaug.study import variant_configs


def configs_of_file(path: Path) -> list[Config]:
    """The config at `path`; if it is a study, those of its variants instead.

    Raises UserError for a config that the workflow would refuse.
    """
    config = read_config_file(path)
    whole = load_config(config, str(path))
    variants = variant_configs(config) if whole.study else {}
    return [load_config(variant, f"{path}: study.{name}") for name, variant in variants.items()] or [whole]


def downloads_of_file(path: Path) -> list[Download]:
    """The downloads of the config at `path`, and of all variants if it is a study, each once.

    Raises UserError for a config that the workflow would refuse.
    """
    return each_once(download for config in configs_of_file(path) for download in downloads_of(config))


def fetch_one(download: Download) -> str:
    """Download it. Returns the line that says where it is. Raises UserError if it cannot be downloaded."""
    from huggingface_hub import is_offline_mode

    named = download.name + (f" at {download.revision}" if download.revision else "")
    try:
        before = _place_and_size(download, True)
    except Exception:  # it is not there, or not all of it
        before = None
    try:
        place, size = now = _place_and_size(download, is_offline_mode())
    except UserError:
        raise
    except Exception as error:
        raise _explained(error, download, named) from error
    state = "already there" if now == before else f"{size / 1e6:,.1f} MB"
    return f"{download.key}: {named}: {state}, {place}"


def _place_and_size(download: Download, local_files_only: bool) -> tuple[Path, int]:
    """Where it is, and the bytes that are there."""
    place = download.get(local_files_only)
    return place, sum(file.stat().st_size for file in [place, *place.rglob("*")] if file.is_file())


def _explained(error: Exception, download: Download, named: str) -> UserError:
    """What a user can do about an `error` of a download. named: the thing, with its revision."""
    from huggingface_hub import constants, errors, get_token

    chain, where = list(causes(error)), f"{download.key}: {named}"
    kind, pages = ("data set", "datasets/") if download.key == "dataset.path" else ("model", "")

    def found(*types: type) -> Any:
        return next((one for one in chain if isinstance(one, types)), None)

    if gated := found(errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{pages}{gated.repo_id or download.name}"
        login = "with the account of your token" if get_token() else "and log in with `hf auth login`, or set HF_TOKEN"
        return UserError(
            f"{where}: is gated, and you have no access", advice=f"accept its conditions on {page}, {login}"
        )
    if found(errors.RevisionNotFoundError):
        return UserError(f"{where}: the hub has no such revision", advice="give a commit, tag or branch of its page")
    if found(errors.RepositoryNotFoundError, errors.HFValidationError):
        return UserError(
            f"{where}: the hub has no such {kind}, or it is private",
            advice="correct the name, or log in with `hf auth login` or HF_TOKEN as somebody who may read it",
        )
    if missing := found(errors.RemoteEntryNotFoundError):
        return UserError(f"{where}: has no file that is needed ({short_text(missing)})", advice=f"give another {kind}")
    if refused := found(errors.HfHubHTTPError):
        status = refused.response.status_code
        answer = f"{status}: {' '.join((refused.server_message or 'no reason').split())[:200]}"
        if status in (401, 403):
            return UserError(
                f"{where}: the hub refuses your token ({answer})",
                advice="log in with `hf auth login`, or set HF_TOKEN to a token that may read it",
            )
        return UserError(f"{where}: the hub sends an error ({answer})", advice="try again later")
    for one in chain:
        if full := _disk_fault(one, Path(constants.HF_HUB_CACHE, download.name)):
            return UserError(f"{download.key}: {full.problem}", advice="make room, and fetch again")
    if denied := found(PermissionError):
        return UserError(f"{where}: cannot be written ({short_text(denied)})", advice="set HF_HOME to another folder")
    if constants.is_offline_mode():
        return UserError(
            f"{where}: is not on this machine, and HF_HUB_OFFLINE=1 forbids to download it",
            advice="set HF_HUB_OFFLINE=0 where there is a network",
        )
    unreachable = found(errors.LocalEntryNotFoundError, ConnectionError, TimeoutError, URLError)
    if unreachable or any(type(one).__module__.startswith("httpx") for one in chain):
        return UserError(
            f"{where}: there is no connection ({short_text(chain[-1])})", advice="check the network and the proxy"
        )
    return UserError(f"{where}: cannot be fetched ({short_text(error)})", advice="see its page, or give another one")


def _disk_fault(error: BaseException, place: Path) -> UserError | None:
    """The message of a full or faulty disk at `place`; None: `error` is another one."""
    try:
        with space_for(place):
            raise error
    except UserError as full:
        return full
    except BaseException:
        return None


def quieten_hub() -> None:
    """No warnings of the library: what it warns of becomes a UserError, or is harmless. Progress only on a terminal."""
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    if not sys.stderr.isatty():
        disable_progress_bars()


def fetch(
    config: Annotated[
        Path | None, typer.Argument(help="The config of the experiment.", show_default="config.yaml")
    ] = None,
) -> None:
    """Download what a config names, for jobs without a network.

    That is every model, adapter and data set of the Hugging Face hub, at its revision, the pretrained weights of timm
    and torchvision, and with dataset.download the data set. Only the files that jobs read are downloaded, into the
    caches in which jobs look for them (HF_HOME, TORCH_HOME). What is there already is not downloaded again.

    Afterwards jobs find all of it with HF_HUB_OFFLINE=1, which profiles/slurm sets. If one thing cannot be downloaded,
    the others still are, and the exit status is 2. With HF_HUB_OFFLINE=1 this command only checks what is there.

    \b
    Example:
      synaug fetch mine.yaml
    """
    downloads = downloads_of_file(config or Path("config.yaml"))
    if not downloads:
        print("nothing to fetch: everything that the config names is in local files")
        return
    quieten_hub()
    failed = False
    for download in downloads:
        try:
            print(fetch_one(download), flush=True)
        except UserError as error:
            print(f"{ERROR_PREFIX}{error}", file=sys.stderr, flush=True)
            failed = True
    if failed:
        raise typer.Exit(2)

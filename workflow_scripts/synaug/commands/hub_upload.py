"""Uploads an exported folder to the Hugging Face hub, as a new repository."""

import shlex
from pathlib import Path
from typing import Literal

from synaug.runtime.errors import UserError, short_text

Kind = Literal["dataset", "model"]
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def folder_of_export(out: Path | None, hub: str | None, public: bool) -> Path:
    """The folder to write to: `out`, or one in the current folder that is named like the repository.

    Raises UserError if the arguments do not fit each other.
    """
    if public and hub is None:
        raise UserError("--public: has no effect without --hub", advice="leave it out")
    if out is None and hub is None:
        raise UserError("no folder given", advice="name one to create")
    return out or Path(str(hub).rpartition("/")[2])


def check_new_repository(name: str, kind: Kind) -> str:
    """The full id, `<owner>/<name>`, of a repository that does not exist yet; without an owner it is the user's own.

    Raises UserError without a token or a network, for a name that is not possible, and for one that exists.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import logging, validate_repo_id

    logging.set_verbosity_error()
    api = HfApi()
    try:
        validate_repo_id(name)
        user = api.whoami()["name"]
        repository = name if "/" in name else f"{user}/{name}"
        exists = api.repo_exists(repository, repo_type=kind)
    except Exception as error:
        problem, advice = _explained(error, name)
        raise UserError(f"--hub: {problem}", advice=advice) from None
    if exists:
        raise UserError(
            f"--hub: the {kind} {repository} exists already on the hub",
            advice=f"give another name, or delete it on {_page(repository, kind)}/settings",
        )
    return repository


def upload(folder: Path, repository: str, kind: Kind, public: bool) -> str:
    """Create `repository`, private unless `public`, with the files of `folder`. Returns the address of its page.

    Raises UserError if that fails. The message says how to go on: files that have arrived are not sent again.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, repo_type=kind, private=not public)
        api.upload_folder(repo_id=repository, repo_type=kind, folder_path=folder, commit_message="Written by synaug")
    except Exception as error:
        problem, advice = _explained(error, repository)
        arguments = [repository, str(folder), ".", "--type", kind, "--no-private" if public else "--private"]
        raise UserError(
            f"{folder}: is complete, but not on the hub: {problem}",
            advice=f"{advice}, then run `hf upload {shlex.join(arguments)}`",
        ) from error
    return _page(repository, kind)


def _page(repository: str, kind: Kind) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repository}"


def _explained(error: Exception, repository: str) -> tuple[str, str]:
    """What is wrong, and what to do about it."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.HFValidationError):
        return f"{repository!r} is no name of a repository ({short_text(error)})", "give <owner>/<name>"
    if isinstance(error, errors.LocalTokenNotFoundError):
        return "there is no token", _LOG_IN
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        answer = f"{status}: {' '.join((error.server_message or 'no reason').split())[:200]}"
        if status == 401:
            return f"the hub refuses your token ({answer})", _LOG_IN
        if status == 403:
            return f"your token may not write to {repository} ({answer})", _LOG_IN
        if status == 409:
            return f"{repository} exists already ({answer})", "make sure that it is yours"
        return f"the hub sends an error ({answer})", "wait for a while"
    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE=1 forbids to upload", "set HF_HUB_OFFLINE=0 where there is a network"
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith("httpx"):
        return f"there is no connection ({short_text(error)})", "check the network and the proxy"
    return f"it cannot be uploaded ({short_text(error)})", "see what the hub says about it"

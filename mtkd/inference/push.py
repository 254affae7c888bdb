"""Upload an exported model with its card to the Hugging Face hub."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, get_token

from mtkd.errors import UserError, first_line


def open_repository(name: str) -> Callable[[Path], str]:
    """Make the model repository USER/NAME if it is not there, before anything is exported.

    Returns:
        A function that uploads a folder in one commit, and returns the repository's address.

    Raises:
        UserError: No such name is allowed, there is no token, it has no rights, or the hub cannot
            be reached; also by the function, which names the command that uploads the folder.
    """
    where, api = f"--push {name}", HfApi()
    if len(name.split("/")) != 2:
        raise UserError(f"{where}: give USER/NAME.")
    if not get_token():
        raise UserError(f"{where}: there is no token: run 'hf auth login', or set HF_TOKEN.")
    with _explained(where, "nothing was exported"):
        address = str(api.create_repo(name, exist_ok=True))

    def upload(folder: Path) -> str:
        with _explained(where, f"once that is mended, run 'hf upload {name} {folder}'"):
            message = f"{folder.name}, exported by mtkd"
            api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
        return address

    return upload


@contextmanager
def _explained(where: str, then: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the hub's client raises many kinds, and its transport others
        status = getattr(getattr(error, "response", None), "status_code", None)
        reasons = {
            401: "the hub does not know the token: run 'hf auth login', or set HF_TOKEN",
            403: "the token has no right to write there: take one that has, or another name",
        }
        failed = f"the hub cannot be used ({first_line(error)}): connect, or correct the name"
        raise UserError(f"{where}: {reasons.get(status, failed)}; {then}.") from None

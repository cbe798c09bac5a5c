"""Only regular files are opened, and only where they were looked for."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from etl_assets.engine.files import regular
from etl_assets.engine.files.regular import LeadsOutError, NotRegularError, descriptor_path, open_regular


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder beside which a secret lies."""
    folder = tmp_path / "root"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_confined", [True, False])
def test_what_is_no_regular_file_is_refused_at_once(root: Path, kind: str, is_confined: bool) -> None:
    """Fails: a pipe in place of a file stops the pipeline for ever, and no Ctrl-C ends it."""
    KINDS[kind](root / "a")
    with pytest.raises(NotRegularError) as caught:
        open_regular(root / "a", root if is_confined else None)
    assert caught.value.kind == kind
    assert str(root / "a") in str(caught.value)


def test_a_socket_is_refused_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A socket's whole path may have about a hundred characters.
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("a")
        with pytest.raises(NotRegularError, match="a socket"):
            open_regular(root / "a", root)


def test_a_file_and_links_within_the_folder_are_opened(root: Path, tmp_path: Path) -> None:
    (root / "inner").mkdir()
    (root / "inner" / "a").write_bytes(b"mine")
    (root / "link").symlink_to("inner/a")
    (root / "linked").symlink_to("inner", target_is_directory=True)
    (tmp_path / "other name").symlink_to(root, target_is_directory=True)
    for folder in (root, tmp_path / "other name"):
        for name in ("inner/a", "link", "linked/a"):
            with open_regular(folder / name, folder) as stream:
                assert stream.read() == b"mine"


@pytest.mark.parametrize("names_itself", [True, False])
def test_what_a_link_leads_to_outside_is_not_opened(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names_itself: bool
) -> None:
    """Fails: the folder's writer gets any file that this user may read. Also where the system names no open file."""
    if not names_itself:
        monkeypatch.setattr(regular, "_DESCRIPTORS", tmp_path / "no such folder")
    (root / "file").symlink_to("../secret")
    (root / "folder").symlink_to("..", target_is_directory=True)
    (root / "own").write_bytes(b"mine")
    for name in ("file", "folder/secret", "../secret"):
        with pytest.raises(LeadsOutError):
            open_regular(root / name, root)
    with open_regular(root / "file") as followed, open_regular(root / "own", root) as own:
        assert (followed.read(), own.read()) == (b"secret", b"mine")


def test_a_neighbour_whose_name_begins_alike_is_outside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "a").write_bytes(b"other")
    with pytest.raises(LeadsOutError):
        open_regular(root / "../root2/a", root)


def test_an_open_file_can_be_opened_again_after_its_name_leads_elsewhere(root: Path, tmp_path: Path) -> None:
    (root / "a").write_bytes(b"mine")
    with open_regular(root / "a", root) as stream:
        (root / "a").unlink()
        (root / "a").symlink_to("../secret")
        path = descriptor_path(stream)
        assert path is None or path.read_bytes() == b"mine"


def test_no_descriptor_is_left_open_by_a_refusal(root: Path) -> None:
    """Fails: a sensor that looks at a pipe every minute runs out of descriptors."""
    os.mkfifo(root / "a")
    before = os.open(root, os.O_RDONLY)
    os.close(before)
    for _ in range(3):
        with pytest.raises(NotRegularError):
            open_regular(root / "a", root)
    after = os.open(root, os.O_RDONLY)
    os.close(after)
    assert after == before

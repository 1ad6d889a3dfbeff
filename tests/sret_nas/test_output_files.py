"""No output is written over what a command reads, nor over anything that exists unless that was asked for."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sret_nas.errors import UserError
from sret_nas.output_files import new_folder, require_empty_folder, require_free, require_new_folder, require_outside


def test_a_new_file_and_missing_sources_are_fine(tmp_path: Path) -> None:
    require_free([tmp_path / "new.yaml"], reads=[tmp_path / "not-there"])


def test_an_existing_file_takes_force(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("")
    with pytest.raises(UserError, match=r"old\.yaml exists already: name another --picture, or .* --force"):
        require_free([tmp_path / "new.yaml", tmp_path / "old.yaml"], reads=[], option="--picture")
    require_free([tmp_path / "old.yaml"], reads=[], force=True)


def test_a_link_to_nothing_exists(tmp_path: Path) -> None:
    (tmp_path / "link.yaml").symlink_to("nowhere")
    with pytest.raises(UserError, match="exists already"):
        require_free([tmp_path / "link.yaml"], reads=[])


def other_spelling(source: Path) -> Path:
    return source.parent / "." / "sub" / ".." / source.name


def symbolic_link(source: Path) -> Path:
    link = source.with_name("link")
    link.symlink_to(source)
    return link


def hard_link(source: Path) -> Path:
    link = source.with_name("link")
    os.link(source, link)
    return link


def linked_folder(source: Path) -> Path:
    folder = source.parent / "folder"
    folder.symlink_to(source.parent)
    return folder / source.name


@pytest.mark.parametrize("spell", [lambda path: path, other_spelling, symbolic_link, hard_link, linked_folder])
@pytest.mark.parametrize("force", [False, True])
def test_what_is_read_is_never_written_over(tmp_path: Path, spell: object, force: bool) -> None:
    assert callable(spell)
    (tmp_path / "sub").mkdir()
    (tmp_path / "source").write_text("")
    with pytest.raises(UserError, match="is read by this command"):
        require_free([spell(tmp_path / "source")], reads=[tmp_path / "source"], force=force)


def test_a_file_in_a_folder_that_is_read_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_text("")
    with pytest.raises(UserError, match="is read by this command"):
        require_free([tmp_path / "images" / "1.png"], reads=[tmp_path / "images"], force=True)


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        require_free([tmp_path], reads=[], force=True)


def test_a_folder_for_results_holds_nothing(tmp_path: Path) -> None:
    require_empty_folder(tmp_path / "new")
    require_empty_folder(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"is not empty \(it holds file\)"):
        require_empty_folder(tmp_path)
    with pytest.raises(UserError, match="must be a folder"):
        require_empty_folder(tmp_path / "file")


class TestNewFolder:
    def test_it_is_there_whole_when_the_block_ends(self, tmp_path: Path) -> None:
        with new_folder(tmp_path / "a" / "out") as folder:
            (folder / "one").write_text("1")
            assert not (tmp_path / "a" / "out").exists()
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]
        assert (tmp_path / "a" / "out" / "one").read_text() == "1"
        assert (tmp_path / "a" / "out").stat().st_mode & 0o777 == 0o755

    def test_nothing_is_left_of_a_block_that_fails(self, tmp_path: Path) -> None:
        def interrupted() -> None:
            with new_folder(tmp_path / "out") as folder:
                (folder / "one").write_text("1")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_was_filled_in_between_is_kept(self, tmp_path: Path) -> None:
        out = tmp_path / "out"

        def overtaken() -> None:
            with new_folder(out):
                out.mkdir()
                (out / "mine").write_text("1")

        with pytest.raises(UserError, match="is not empty"):
            overtaken()
        assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def test_a_folder_for_results_is_no_class_of_an_image_folder(tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "cat").mkdir(parents=True)
    require_outside(tmp_path / "results", images)
    require_outside(tmp_path / "results", Path("cifar10"))
    (tmp_path / "link").symlink_to(images)
    for folder in (images / "results", tmp_path / "link" / "results", images):
        with pytest.raises(UserError, match=r"must not lie inside the image folder .*: name another --openvino"):
            require_outside(folder, images, "--openvino")


def _forbidden(folder: Path) -> Path:
    folder.chmod(0o555)
    return folder / "new" / "deeper.yaml"


def _below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "new.yaml"


def _long_name(folder: Path) -> Path:
    return folder / ("x" * 300)


@pytest.mark.parametrize(
    ("make", "reason"),
    [(_forbidden, "Permission denied"), (_below_a_file, "Not a directory"), (_long_name, "File name too long")],
)
@pytest.mark.parametrize("check", [lambda path: require_free([path], reads=[]), require_empty_folder])
def test_what_cannot_be_written_is_known_beforehand(
    tmp_path: Path, make: Callable[[Path], Path], reason: str, check: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = make(tmp_path)
    if os.geteuid() == 0:  # who may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: bool(os.stat(path).st_mode & stat.S_IWUSR))
    with pytest.raises(UserError, match=f"cannot be written: {reason}: name another --out"):
        check(path)


def test_a_folder_that_may_be_written_needs_no_parent_that_may(tmp_path: Path) -> None:
    require_empty_folder(tmp_path / "a" / "b" / "c")
    require_free([Path("relative.yaml")], reads=[])


@pytest.mark.parametrize("length", [245, 250, 255])
@pytest.mark.parametrize("check", [lambda path: require_free([path], reads=[]), require_new_folder])
@pytest.mark.parametrize("inside", ["", "not/there/yet"])
def test_a_name_without_room_for_that_of_the_hidden_file_before_it(
    tmp_path: Path, length: int, check: Callable[[Path], None], inside: str
) -> None:
    """Files are written under a name of eleven characters more, and then renamed."""
    with pytest.raises(UserError, match="cannot be written: File name too long: name another --out"):
        check(tmp_path / inside / ("é" * (length // 2) + "x" * (length % 2)))
    check(tmp_path / inside / ("x" * 244))
    require_empty_folder(tmp_path / inside / ("x" * 255))  # where a command writes into it


@pytest.mark.parametrize("name", [".", "../here", "link"])
def test_the_current_folder_cannot_be_replaced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (tmp_path / "link").symlink_to(here)
    folder = tmp_path / "link" if name == "link" else Path(name)
    with pytest.raises(UserError, match=r"is the folder that the command runs in, .*: name another --to"):
        require_new_folder(folder, "--to")
    with pytest.raises(UserError, match="is the folder that the command runs in"), new_folder(folder):
        pytest.fail("work was done")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "link"]
    require_empty_folder(folder)  # where files are written into it


def test_a_mount_point_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    with pytest.raises(UserError, match=r"is a mount point, which cannot be replaced: name a folder inside it"):
        require_new_folder(tmp_path)


def test_a_link_to_an_empty_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk" / "out").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk/out")
    with new_folder(tmp_path / "link") as folder:
        (folder / "one").write_text("1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "out" / "one").read_text() == "1"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "link", "one", "out"]

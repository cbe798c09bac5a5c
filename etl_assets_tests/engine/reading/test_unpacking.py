"""Packed texts: read to their very end or refused by name, in bounded memory."""

import contextlib
import io
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard

from etl_assets.engine.reading.exports import Export, unopened
from etl_assets.engine.reading.verified import stat_files
from etl_assets.errors import InputError

_TEXT = b"customer_id,name\n" + b"".join(b"c%d,Ada\n" % number for number in range(50))


def export_of(path: Path, content: bytes) -> Export:
    """The file as an export."""
    path.write_bytes(content)
    return unopened(path.parent, stat_files([path], path.parent)[0])


def text_of(export: Export, limit_bytes: int | None = None) -> bytes:
    """All of its text."""
    with export.open(limit_bytes) as stream:
        return b"".join(iter(lambda: stream.read(1 << 16), b""))


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these files; a name that ends in a slash is a folder."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def frames(*parts: bytes) -> bytes:
    """A zstd frame of each part."""
    return b"".join(zstandard.ZstdCompressor(write_checksum=True).compress(part) for part in parts)


class TestZstd:
    def test_every_frame_of_a_file_is_read(self, tmp_path: Path) -> None:
        """Fails: what was appended, or packed by several threads, is missing without a word."""
        skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
        for number, content in enumerate(
            [frames(_TEXT[:99], _TEXT[99:]), skippable + frames(_TEXT, b""), frames(_TEXT)]
        ):
            assert text_of(export_of(tmp_path / f"{number}.csv.zst", content)) == _TEXT

    @pytest.mark.parametrize("seed", range(3))
    def test_a_file_that_was_cut_off_is_never_whole(self, tmp_path: Path, seed: int) -> None:
        """Fails: the rows before the cut pass for the whole export."""
        # Text, bytes that cannot be packed, and one byte many times: a block of each kind.
        text = [_TEXT, random.Random(seed).randbytes(300), b"x" * 400_000][seed]
        for with_checksum in (True, False):
            packed = zstandard.ZstdCompressor(write_checksum=with_checksum, write_content_size=False).compress(text)
            for cut in range(1, len(packed)):
                export = export_of(tmp_path / "x.csv.zst", packed[:cut])
                with pytest.raises(InputError, match=r"x\.csv\.zst is not a readable zstd file"):
                    text_of(export)

    @pytest.mark.parametrize("content", [_TEXT, frames(_TEXT) + b"rest", frames(_TEXT) + bytes(8), frames(_TEXT)[4:]])
    def test_what_is_no_frame_is_refused(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(InputError, match="is not a readable zstd file"):
            text_of(export_of(tmp_path / "x.csv.zst", content))

    def test_a_changed_byte_is_noticed(self, tmp_path: Path) -> None:
        packed = bytearray(frames(_TEXT))
        packed[-2] ^= 1
        with pytest.raises(InputError, match="is not a readable zstd file"):
            text_of(export_of(tmp_path / "x.csv.zst", bytes(packed)))

    def test_a_window_beyond_the_usual_is_refused(self, tmp_path: Path) -> None:
        """Fails: a file decides how much memory its reading takes."""
        parameters = zstandard.ZstdCompressionParameters(window_log=28)
        packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        with pytest.raises(InputError, match="too much memory"):
            text_of(export_of(tmp_path / "x.csv.zst", packer.compress(_TEXT) + packer.flush()))


class TestZip:
    def test_the_one_file_is_read_and_folders_do_not_count(self, tmp_path: Path) -> None:
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            content = zipped({"a/": b"", "a/b/": b"", "a/b/x.csv": _TEXT}, method)
            assert text_of(export_of(tmp_path / "x.csv.zip", content)) == _TEXT

    @pytest.mark.parametrize(
        ("members", "finding"),
        [
            ({}, r"x\.csv\.zip holds no files; expected one"),
            ({"a/": b""}, r"holds no files; expected one"),
            ({"a.csv": b"1", "b.csv": b"2"}, r"holds 2 files \(a\.csv, b\.csv\); expected one"),
            ({f"{number}.csv": b"" for number in range(9)}, r"holds 9 files \(0\.csv, .*4\.csv, …\); expected one"),
        ],
    )
    def test_several_files_and_none_are_named(self, tmp_path: Path, members: dict[str, bytes], finding: str) -> None:
        with pytest.raises(InputError, match=finding):
            text_of(export_of(tmp_path / "x.csv.zip", zipped(members)))

    def test_an_encrypted_file_is_named(self, tmp_path: Path) -> None:
        content = bytearray(zipped({"x.csv": _TEXT}))
        for place in (6, content.index(b"PK\1\2") + 8):
            content[place] |= 1
        with pytest.raises(InputError, match=r"x\.csv in x\.csv\.zip is encrypted"):
            text_of(export_of(tmp_path / "x.csv.zip", bytes(content)))

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_methods_that_unpack_in_pieces_of_any_length_are_refused(self, tmp_path: Path, method: int) -> None:
        """Fails: a few KB take some GB of memory before the limit is looked at."""
        with pytest.raises(InputError, match="expected deflate"):
            text_of(export_of(tmp_path / "x.csv.zip", zipped({"x.csv": _TEXT}, method)))

    def test_an_archive_that_was_cut_off_or_changed_is_refused(self, tmp_path: Path) -> None:
        content = zipped({"x.csv": _TEXT})
        for cut in range(1, len(content)):
            with pytest.raises(InputError, match="is not a readable zip file"):
                text_of(export_of(tmp_path / "x.csv.zip", content[:cut]))
        changed = bytearray(content)
        changed[60] ^= 1
        with pytest.raises(InputError, match="is not a readable zip file"):
            text_of(export_of(tmp_path / "x.csv.zip", bytes(changed)))

    def test_a_directory_without_end_is_not_read_into_memory(self, tmp_path: Path) -> None:
        content = zipped({f"{number:0200}/": b"" for number in range(25_000)})
        with pytest.raises(InputError, match="its directory has more than 4 MB"):
            text_of(export_of(tmp_path / "x.csv.zip", content))

    @pytest.mark.parametrize("seed", range(10))
    def test_a_damaged_directory_is_an_error_of_the_export(self, tmp_path: Path, seed: int) -> None:
        """Fails: a traceback of the library instead of an error that names the file."""
        dice, sound = random.Random(seed), zipped({"über.csv": b"a,b\n"})
        directory = sound.index(b"PK\1\2")
        for _ in range(30):
            content = bytearray(sound)
            for _ in range(3):
                content[dice.randrange(directory, len(content))] = dice.choice([0, 255, 64, 128])
            with contextlib.suppress(InputError):
                text_of(export_of(tmp_path / "x.csv.zip", bytes(content)))

    def test_an_archive_that_does_not_say_what_it_holds_is_asked(self, tmp_path: Path) -> None:
        assert export_of(tmp_path / "x.zip", zipped({"x.tsv": _TEXT})).member == "x.tsv"
        for name in ("x.parquet", "x.csv.gz", "x.zip"):
            with pytest.raises(InputError, match=rf"x\.zip holds {name}; expected a text"):
                export_of(tmp_path / "x.zip", zipped({name: _TEXT}))


class TestLimit:
    @pytest.mark.parametrize("suffix", [".csv.zst", ".csv.zip"])
    def test_a_text_beyond_the_limit_is_refused_while_it_is_read(self, tmp_path: Path, suffix: str) -> None:
        """Fails: a few KB fill the disk."""
        text = b"x" * (3 << 20)
        export = export_of(tmp_path / f"x{suffix}", frames(text) if suffix == ".csv.zst" else zipped({"x.csv": text}))
        assert text_of(export, 3 << 20) == text
        with pytest.raises(InputError, match=r"unpacks to more than the 2 MB that are allowed"):
            text_of(export, 2 << 20)

    def test_an_archive_that_lies_about_its_length_is_refused(self, tmp_path: Path) -> None:
        content = bytearray(zipped({"x.csv": b"x" * (3 << 20)}))
        place = content.index(b"PK\1\2") + 24
        content[place : place + 4] = (1000).to_bytes(4, "little")
        with pytest.raises(InputError, match="is not a readable zip file"):
            text_of(export_of(tmp_path / "x.csv.zip", bytes(content)), 1 << 20)

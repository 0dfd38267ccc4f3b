import os
import random
from pathlib import Path

import pytest

from components.clean import sources
from components.clean.config import CorpusConfig
from components.clean.sources import find_sources
from components.errors import UserError
from components.files import hash_file


def write(path: Path, text: str = "text\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def names(*paths: str | Path) -> list[str]:
    return [s.name for s in find_sources(CorpusConfig(paths=tuple(map(str, paths))))]


def refused(**corpus) -> str:
    with pytest.raises(UserError) as error:
        find_sources(CorpusConfig(**corpus))
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_folder_is_read_recursively_in_order_of_relative_paths_without_hidden_files(tmp_path):
    for name in ("b.txt", "a/z.jsonl.gz", "a.txt.gz", "a/ü ñ 中.txt", "UPPER.TXT"):
        write(tmp_path / name)
    for name in (".hidden.txt", "_SUCCESS.txt", ".git/x.txt", "_tmp/x.txt", "readme.md"):
        write(tmp_path / name)
    assert names(tmp_path) == ["UPPER.TXT", "a.txt.gz", "a/z.jsonl.gz", "a/ü ñ 中.txt", "b.txt"]


def test_order_does_not_depend_on_the_listing(tmp_path, monkeypatch):
    for i in range(20):
        write(tmp_path / f"{i % 3}" / f"{i}.txt")
    expected = names(tmp_path)
    real = os.scandir

    class Shuffled:
        def __init__(self, path):
            with real(path) as entries:
                self.entries = list(entries)
            random.Random(1).shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(sources.os, "scandir", Shuffled)
    assert names(tmp_path) == expected


def test_configured_order_comes_first_and_equal_relative_paths_stay_apart(tmp_path):
    one, two = write(tmp_path / "one/x.txt", "1"), write(tmp_path / "two/x.txt", "2")
    assert names(two, one) == ["x.txt", "x.txt~2"]
    found = find_sources(CorpusConfig(paths=(two, one)))
    assert [s.path for s in found] == [two, one]
    assert found[0].bytes == 1
    assert hash_file(Path(found[0].path)) != hash_file(Path(found[1].path))


def test_overlapping_patterns_read_a_file_once(tmp_path):
    path = write(tmp_path / "a.txt")
    write(tmp_path / "b.txt")
    assert names(tmp_path / "*.txt", path, tmp_path) == ["a.txt", "b.txt"]


def test_globs_are_named_from_the_folder_before_the_first_wildcard(tmp_path):
    for name in ("en/train.txt", "de/train.txt", "de/deep/more.txt", "de/train.csv", "de/.x.txt"):
        write(tmp_path / name)
    assert names(tmp_path / "*/train.txt") == ["de/train.txt", "en/train.txt"]
    assert names(tmp_path / "**/*.txt") == ["de/deep/more.txt", "de/train.txt", "en/train.txt"]
    assert names(tmp_path / "**") == ["de/deep/more.txt", "de/train.txt", "en/train.txt"]
    assert names(tmp_path / "d?") == ["de/deep/more.txt", "de/train.txt"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path):
    assert names(write(tmp_path / "a[1].txt")) == ["a[1].txt"]


def test_a_file_without_extension_is_text_where_it_is_named_itself(tmp_path):
    path = write(tmp_path / "corpus")
    write(tmp_path / "b.txt")
    assert names(path) == ["corpus"]
    assert names(tmp_path) == ["b.txt"]


@pytest.mark.timeout(10)
def test_links_in_circles_end(tmp_path):
    write(tmp_path / "a/x.txt")
    for i in range(12):
        (tmp_path / "a" / f"loop{i}").symlink_to(tmp_path)
        (tmp_path / f"again{i}").symlink_to(tmp_path / "a")
    assert names(tmp_path) == ["a/x.txt"]
    assert names(tmp_path / "**/*.txt") == ["a/x.txt"]


def test_explicit_splits(tmp_path):
    paths = {split: (write(tmp_path / split / "data.txt"),) for split in ("train", "valid", "test")}
    found = find_sources(CorpusConfig(**paths))
    assert [(s.split, s.name) for s in found] == [
        ("train", "data.txt"),
        ("valid", "data.txt~2"),
        ("test", "data.txt~3"),
    ]


def test_a_file_named_in_two_splits_is_a_source_of_both(tmp_path):
    path = (write(tmp_path / "data.txt"),)
    assert len(find_sources(CorpusConfig(train=path, valid=path, test=path))) == 3


def test_the_ways_to_name_a_corpus(tmp_path):
    path = (write(tmp_path / "data.txt"),)
    nothing = refused()
    assert "--input PATH" in nothing
    assert "corpus.source=python-docs" in nothing
    assert "more than one way" in refused(paths=path, source="python-docs")
    assert "more than one way" in refused(paths=path, test=path)
    assert "corpus.valid is not set" in refused(train=path, test=path)


def test_a_wrong_path_is_told_with_its_nearest_sibling(tmp_path):
    write(tmp_path / "data/train.txt")
    message = refused(paths=(str(tmp_path / "data/trian.txt"),))
    assert "corpus.paths" in message
    assert f"did you mean {tmp_path}/data/train.txt?" in message
    assert f"did you mean {tmp_path}/data?" in refused(paths=(str(tmp_path / "dat/deep/er/train.txt"),))
    assert "there is no zzz" in refused(paths=(str(tmp_path / "zzz/a.txt"),))
    assert "there is no x" in refused(paths=(str(tmp_path / "data/train.txt" / "x"),))
    assert "empty path" in refused(paths=("",))
    assert "File name too long" in refused(paths=("x" * 5000,))
    assert "nothing matches" in refused(paths=(str(tmp_path / "nowhere/*.txt"),))


def test_folders_without_a_known_format(tmp_path):
    (tmp_path / "empty").mkdir()
    assert ".txt, .jsonl, .txt.gz, .jsonl.gz" in refused(paths=(str(tmp_path / "empty"),))
    write(tmp_path / "other/a.pdf")
    message = refused(paths=(str(tmp_path / "other"),))
    assert "a.pdf" in message
    assert ".jsonl.gz" in message
    assert "no known format" in refused(paths=(str(tmp_path / "other/a.pdf"),))
    assert "a.pdf" in refused(paths=(str(tmp_path / "other/*"),))


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert "gone.txt cannot be read (its target does not exist)" in refused(paths=(str(tmp_path / "gone.txt"),))
    assert "gone.txt cannot be read" in refused(paths=(str(tmp_path),))
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    assert "self.txt cannot be read" in refused(paths=(str(tmp_path / "self.txt"),))
    (tmp_path / "dir.txt").mkdir()
    assert "dir.txt is empty" in refused(paths=(str(tmp_path / "dir.txt"),))


@pytest.mark.timeout(10)
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    assert "not a regular file" in refused(paths=(str(tmp_path),))


def test_a_file_without_permission(tmp_path, monkeypatch):
    Path(write(tmp_path / "secret.txt")).chmod(0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)  # root reads everything
    try:
        assert "Permission denied" in refused(paths=("secret.txt",))
    finally:
        os.seteuid(me)


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    for odd in (b"name/\xff.txt", b"folder/\xff/a.txt"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + odd))
        write(path)
        message = refused(paths=(str(tmp_path / os.fsdecode(odd.split(b"/")[0])),))
        shown = f"{tmp_path}/{odd.decode(errors='replace')}"
        assert message == f"corpus.paths: the name of {shown!r} is not valid UTF-8; rename it"
    assert "rename it" in refused(paths=(str(path),))
    assert "rename it" in refused(paths=(str(path.parent),))


def test_the_home_of_nobody_is_told():
    message = refused(paths=("~no-such-user-here/a.txt",))
    assert message == "corpus.paths: ~no-such-user-here/a.txt: there is no such user; write the folder out"


def test_python_docs_are_the_sources_of_this_python():
    found = find_sources(CorpusConfig(source="python-docs"))
    listed = [s.name for s in found]
    assert listed == sorted(listed)
    assert {"python-docs/json/decoder.py", "python-docs/pydoc_data/topics.py"} < set(listed)
    assert not any("/test/" in name or "/site-packages/" in name or "/idlelib/" in name for name in listed)
    assert Path(found[listed.index("python-docs/json/decoder.py")].path).samefile(__import__("json").decoder.__file__)

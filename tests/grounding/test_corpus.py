"""Files are read or listed with the reason, and every passage is exactly the lines it names."""

import hashlib
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_jax.grounding import read_corpus

REPOSITORY = Path(__file__).parents[2]

MARKDOWN = """\
# Title

## Speed

First paragraph,
of two lines.
- a list
- of two

| name | value |
|---|---|
| a | 1 |
| b | 2 |
| c | 3 |
| d | 4 |
| e | 5 |
| f | 6 |

### Code

```python
# not a heading

| not | a table |
```
## Empty
"""
PYTHON = '''\
"""What it does.

More of it.
"""

import os

LIMIT = 3
"""The most of them."""
OTHER = 4


# Above.
@decorated
def short(x):
    """Short."""
    return x


class Long:
    """A class of
    many lines."""

    field: int = 1
    """A field."""

    def method(self):
        """Do."""
        return """
{text}
"""
# The end.
'''.replace("{text}", "line\n" * 30)


def write(root, files):
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def sources(corpus):
    return [passage.source.partition(":")[2] for passage in corpus.passages]


def reasons(corpus):
    return dict(corpus.skipped)


def covered(corpus, path):
    """The numbers of the lines in passages of a file, in order of the passages."""
    numbers = []
    for passage in corpus.passages:
        name, first, last = re.fullmatch(r"(.+):(\d+)-(\d+)", passage.source).groups()
        if name == path:
            numbers += range(int(first), int(last) + 1)
    return numbers


# Cutting ----------------------------------------------------------------------------------------


def test_markdown_is_cut_at_its_blocks(tmp_path):
    corpus = read_corpus(write(tmp_path, {"a.md": MARKDOWN}), ["*.md"])
    assert sources(corpus) == ["1-8", "10-14", "15-17", "19-25", "26-26"]
    texts = [passage.text for passage in corpus.passages]
    assert texts[0].startswith("# Title\n\n## Speed\n\nFirst")
    assert texts[1].startswith("| name | value |")
    assert texts[2] == "| d | 4 |\n| e | 5 |\n| f | 6 |"
    assert texts[3].endswith("| not | a table |\n```")
    assert corpus.contexts == (
        "a.md Title / Speed",
        "a.md Title / Speed / | name | value |",
        "a.md Title / Speed / | name | value |",
        "a.md Title / Speed / Code",
        "a.md Title / Empty",
    )


def test_python_is_cut_at_its_definitions(tmp_path):
    corpus = read_corpus(write(tmp_path, {"a.py": PYTHON}), ["*.py"])
    texts = [passage.text for passage in corpus.passages]
    assert texts[0].startswith('"""What it does.')
    assert texts[1] == 'import os\n\nLIMIT = 3\n"""The most of them."""\nOTHER = 4'
    assert texts[2].startswith("# Above.\n@decorated\ndef short(x):")
    assert texts[3] == 'class Long:\n    """A class of\n    many lines."""'
    assert texts[4] == '    field: int = 1\n    """A field."""'
    assert texts[5] == '    def method(self):\n        """Do."""'
    assert texts[-1] == "# The end."
    assert corpus.contexts[3] == "a.py"
    assert corpus.contexts[4] == "a.py Long A class of"
    assert corpus.contexts[6] == "a.py Long A class of method Do."
    assert max(text.count("\n") for text in texts) < 30


def test_other_text_is_cut_at_blank_lines(tmp_path):
    text = "a: 1\nb: 2\n\n\nc: 3\n" + "d\n" * 60
    corpus = read_corpus(write(tmp_path, {"a.yaml": text}), ["*.yaml"])
    assert sources(corpus) == ["1-2", "5-24", "25-44", "45-65"]


@pytest.mark.parametrize(
    "text",
    ["def (:\n\nx = 1\n", "x = " + "(" * 3000, "x = " + "-" * 9000 + "1"],
    ids=["syntax", "brackets", "depth"],
)
def test_python_that_cannot_be_parsed_is_still_text(text, tmp_path):
    corpus = read_corpus(write(tmp_path, {"a.py": text}), ["*.py"])
    assert sources(corpus)[0] == "1-1"
    assert not corpus.skipped


def test_python_with_a_doubtful_escape_is_read_in_silence(tmp_path):
    corpus = read_corpus(
        write(tmp_path, {"a.py": "x = '\\d'; y = 2\n\n\ndef f(): pass\n"}), ["*.py"]
    )
    assert sources(corpus) == ["1-1", "4-4"]


PIECES = st.sampled_from(
    [
        "",
        "",
        "# One",
        "## Two",
        "text",
        "| a |",
        "|---|",
        "| 1 |",
        "```",
        "- item",
        "  indented",
        "def f(x):",
        "    return x",
        "class C:",
        "    x = 1",
        '"""',
        '"""doc"""',
        '    """doc"""',
        "x = 2",
        "x = (",
        ")",
        "# comment",
        "@decorated",
        "    def g(self): ...",
        "for i in x:",
        "\x0c",
        "a\u2028b",
    ]
)


SNIPPETS = st.sampled_from(
    [
        '"""A docstring,\n\nof a module."""',
        "import os; import re",
        "x = 1",
        '"""What x is."""',
        "# A comment.\n",
        "\n\n",
        "@decorated\n@twice(\n    1,\n)\nasync def f(\n    x,\n):\n    # Why.\n    return x",
        "def g(): return 1",
        "class C: pass",
        "class D:\n    'Doc.'\n\n    x: int = 1\n    '''x.'''\n\n    def m(self):\n        y = 2\n",
        "def long():\n    '''Doc.'''\n" + "    x = 1\n" * 40 + "    # The end.\n    return x",
        "class Long:\n" + "    x = (\n        1,\n    )\n\n" * 20,
        "text = '''\n" + "line\n\n" * 40 + "'''; y = 2",
        "if x:\n" + "    y = 1\n" * 50 + "else:\n    pass",
    ]
)


@settings(max_examples=200)
@given(st.lists(SNIPPETS, max_size=8).map("\n".join))
def test_every_line_of_python_is_in_one_passage(tmp_path_factory, text):
    root = write(tmp_path_factory.mktemp("corpus"), {"a.py": f"z = 0\n{text}"})
    corpus = read_corpus(root, ["*"])
    held = covered(corpus, "a.py")
    assert held == sorted(set(held))
    assert {n for n, line in enumerate(corpus.files["a.py"], 1) if line.strip()} <= set(held)
    for passage in corpus.passages:
        assert corpus.resolve(passage.source) == passage.text
        assert passage.text.strip()
        assert passage.text.count("\n") < 30


@settings(max_examples=200)
@given(st.lists(PIECES, max_size=60), st.sampled_from(["a.md", "a.py", "a.txt"]), st.data())
def test_every_line_with_text_is_in_one_passage(tmp_path_factory, lines, name, data):
    text = "".join(line + data.draw(st.sampled_from(["\n", "\r\n"])) for line in lines) + "end"
    root = write(tmp_path_factory.mktemp("corpus"), {name: text})
    corpus = read_corpus(root, [name])
    held = covered(corpus, name)
    assert held == sorted(set(held))
    assert corpus.files[name] == (*lines, "end")
    assert {n for n, line in enumerate(corpus.files[name], 1) if line.strip()} <= set(held)
    for passage in corpus.passages:
        assert passage.text.strip()
        assert corpus.resolve(passage.source) == passage.text


@pytest.fixture(scope="module")
def own():
    return read_corpus(REPOSITORY)


def test_our_own_passages_are_the_lines_of_our_files(own):
    assert not own.skipped
    for path in own.files:
        text = (REPOSITORY / path).read_text("utf-8")
        assert "\n".join(own.files[path]) == text.removesuffix("\n")
        held = covered(own, path)
        assert held == sorted(set(held))
        wanted = {n for n, line in enumerate(text.split("\n"), 1) if line.strip()}
        assert wanted <= set(held)
    for passage in own.passages:
        assert own.resolve(passage.source) == passage.text
        assert passage.text.count("\n") < 40  # 30 lines, and the headings above
    assert len(own.passages) == len(own.contexts) == len({p.source for p in own.passages})


def test_our_own_corpus_does_not_hold_the_answers(own):
    assert {"README.md", "docs/model.md", "sigma_jax/schema/rates.py"} <= own.files.keys()
    assert not [
        path for path in own.files if path.startswith(("tests/", "sigma_jax/grounding/data"))
    ]


@pytest.mark.parametrize("part", ["#", "# ", " ", "-", "|", "|-", "`", "'", "(", "\\"])
def test_long_lines_take_no_long_time(part, tmp_path):
    line = f"# {part * (9_990 // len(part))}x"
    files = {f"a.{kind}": f"| a |\n{line}\n{line[2:]}\n" for kind in ("md", "py", "txt")}
    assert len(read_corpus(write(tmp_path, files), ["*"]).files) == 3


# Resolving --------------------------------------------------------------------------------------


def test_sources_resolve_to_exact_lines(tmp_path):
    corpus = read_corpus(
        write(tmp_path, {"a.md": "one\r\ntwo\rthree\x0c\nfour", "b.md": "x\n"}), ["*"]
    )
    assert corpus.resolve("a.md:1-1") == "one"
    assert corpus.resolve("a.md:1-4") == "one\ntwo\nthree\x0c\nfour"
    assert corpus.resolve("b.md:1-1") == "x"
    (tmp_path / "a.md").write_text("changed")
    assert corpus.resolve("a.md:1-1") == "one"


@pytest.mark.parametrize(
    "source",
    [
        "a.md",
        "a.md:1",
        "a.md:0-1",
        "a.md:2-1",
        "a.md:1-3",
        "a.md:-1-1",
        "a.md:01-2",
        "b.md:1-1",
        "",
        "./a.md:1-1",
        "../a.md:1-1",
        "x/../a.md:1-1",
        "/etc/passwd:1-1",
        "a.md:1-1\n",
        "a.md:1-٢",
        "a.md:1-" + "9" * 5000,
    ],
)
def test_what_is_not_there_does_not_resolve(source, tmp_path):
    write(tmp_path / "root", {"a.md": "one\ntwo\n"})
    write(tmp_path, {"a.md": "outside\n"})
    assert read_corpus(tmp_path / "root", ["*.md"]).resolve(source) is None


def test_the_digest_is_of_paths_and_contents(tmp_path):
    files = {"b.md": b"two\n", "a.md": b"one\n"}
    expected = hashlib.sha256()
    for path in sorted(files):
        expected.update(hashlib.sha256(path.encode()).digest())
        expected.update(hashlib.sha256(files[path]).digest())
    one = read_corpus(write(tmp_path / "1", files), ["*.md"])
    assert one.digest == expected.hexdigest()
    moved = {"b.md": b"one\n", "a.md": b"two\n"}
    assert read_corpus(write(tmp_path / "2", moved), ["*.md"]).digest != one.digest
    spaced = {"b.md": b"two\n", "a.md": b"one\r\n"}
    assert read_corpus(write(tmp_path / "3", spaced), ["*.md"]).digest != one.digest
    again = read_corpus(write(tmp_path / "4", files), ["b.md", "a.md", "*.md"])
    assert again.digest == one.digest
    assert again.passages == one.passages


# What cannot be read ----------------------------------------------------------------------------


def test_files_that_are_no_text_are_listed(tmp_path):
    root = write(
        tmp_path / "root",
        {
            "good.md": b"\xef\xbb\xbfgood\n",
            "empty.md": b"",
            "blank.md": b"\n \n",
            "binary.md": b"text\0text",
            "latin.md": "naïve".encode("latin-1"),
            "cut.md": "naïve".encode()[:3],
            "huge.md": b"x\n" * 2**20 + b"x",
            "full.md": b"x\n" * 2**20,
            "line.md": b"x" * 10_001,
        },
    )
    corpus = read_corpus(root, ["*.md"])
    assert reasons(corpus) == {
        "binary.md": "binary: it has a NUL byte",
        "latin.md": "not UTF-8: byte 2",
        "cut.md": "not UTF-8: byte 2",
        "huge.md": "larger than 2097152 bytes",
        "line.md": "a line of more than 10000 characters",
    }
    assert list(corpus.files) == ["blank.md", "empty.md", "full.md", "good.md"]
    assert corpus.files["empty.md"] == ()
    assert corpus.passages[-1] == ("good.md:1-1", "good")


def test_links_are_followed_inside_the_root_only(tmp_path):
    outside = write(tmp_path / "outside", {"secret.md": "secret", "deep/x.md": "secret"})
    write(tmp_path / "root-too", {"near.md": "a path that begins alike"})
    root = write(tmp_path / "root", {"a.md": "inside", "data/answers.md": "42"})
    (root / "loop.md").symlink_to("loop.md")
    (root / "broken.md").symlink_to("nowhere.md")
    (root / "out.md").symlink_to(outside / "secret.md")
    (root / "near.md").symlink_to(tmp_path / "root-too" / "near.md")
    (root / "answers.md").symlink_to("data/answers.md")
    (root / "in.md").symlink_to("a.md")
    (root / "folder").symlink_to(outside)
    (root / "cycle").symlink_to(".")
    corpus = read_corpus(root, ["**/*.md", "folder/*.md"], exclude=("data",))
    assert list(corpus.files) == ["a.md", "in.md"]
    found = reasons(corpus)
    for path in ("out.md", "near.md", "folder/secret.md"):
        assert found[path] == "a link to outside the root"
    assert found["answers.md"] == "a link to what is excluded"
    assert "symbolic links" in found["loop.md"]
    assert found["broken.md"] == "No such file or directory"
    assert "secret" not in "".join(passage.text for passage in corpus.passages)


def test_what_is_no_regular_file_is_listed(tmp_path):
    root = write(tmp_path, {"a.md": "text"})
    (root / "folder.md").mkdir()
    os.mkfifo(root / "pipe.md")
    corpus = read_corpus(root, ["*.md"])
    assert reasons(corpus) == dict.fromkeys(["folder.md", "pipe.md"], "not a regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to the superuser")
def test_a_file_without_permission_is_listed(tmp_path):
    root = write(tmp_path, {"a.md": "text", "closed.md": "text"})
    (root / "closed.md").chmod(0)
    assert reasons(read_corpus(root, ["*.md"])) == {"closed.md": "Permission denied"}


def test_a_name_that_is_no_text_is_listed(tmp_path):
    root = write(tmp_path, {"a.md": "text"})
    try:
        Path(os.fsdecode(bytes(root) + b"/\xff.md")).write_text("text")
    except OSError:
        pytest.skip("the file system takes no such name")
    assert reasons(read_corpus(root, ["*.md"])) == {"\ufffd.md": "its name is not UTF-8"}


def test_excluded_folders_are_left_out(tmp_path):
    files = {
        "a.md": "1",
        "data/b.md": "2",
        "data/deep/c.md": "3",
        "database.md": "4",
        "x/d.md": "5",
    }
    corpus = read_corpus(write(tmp_path, files), ["**/*.md"], exclude=("data", "x/d.md"))
    assert list(corpus.files) == ["a.md", "database.md"]
    assert not corpus.skipped


def test_a_corpus_without_text_is_refused(tmp_path):
    root = write(tmp_path, {"a.md": "\n", "b.md": b"\0"})
    with pytest.raises(ValueError, match=r"root .* patterns \('\*\.rst',\); skipped: \[\]"):
        read_corpus(root, ["*.rst"])
    with pytest.raises(ValueError, match=r"root .* skipped: \[\('b\.md', 'binary"):
        read_corpus(root, ["*.md"])


@pytest.mark.parametrize("patterns", ["*.md", [], [""], ["/etc/*"], ["../*.md"], ["a/../../*"]])
def test_bad_patterns_are_named(patterns, tmp_path):
    with pytest.raises(ValueError, match="patterns must be a sequence of relative patterns"):
        read_corpus(write(tmp_path, {"a.md": "text"}), patterns)


def test_a_root_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="root must be a folder"):
        read_corpus(tmp_path / "none")

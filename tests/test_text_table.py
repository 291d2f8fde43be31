"""Tables of text: whatever is read is what stands there, and what is wrong is refused with its file and line."""

from __future__ import annotations

import gzip
import math
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmap_cli.errors import InputError
from gpmap_cli.prepare.tables import text_table
from gpmap_cli.prepare.tables.text_table import parsed, read_records, read_table, read_text, shown, table_of

ROWS = [["s1", "0.5", "a b"], ["s2", "", "x,y"], ["s3", "NA", 'the "best"']]


def written(tmp_path, content, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path, **options):
    with pytest.raises(InputError) as trouble:
        read_table(path, **options)
    [problem] = trouble.value.problems
    assert str(path) in problem.message
    assert problem.hint
    assert problem.message.isprintable()
    return problem.message


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [",", "\t", ";"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("packed", [False, True])
def test_delimiters_line_ends_and_compression(tmp_path, end, mark, encoding, packed):
    lines = [
        mark.join(("id", "y", "Größe")),
        *(mark.join(f'"{c.replace(chr(34), chr(34) * 2)}"' for c in r) for r in ROWS),
    ]
    content = (end.join(lines) + end).encode(encoding)
    table = read_table(written(tmp_path, gzip.compress(content) if packed else content))
    assert table.columns == ("id", "y", "Größe")
    assert table.rows == ROWS
    assert table.lines == [2, 3, 4]
    np.testing.assert_array_equal(table.numbers("y"), [0.5, math.nan, math.nan])


def test_blanks_between_cells(tmp_path):
    table = read_table(written(tmp_path, 'FID IID  y\n 1   a 2\n\n2 "b c" 3\n'))
    assert (table.columns, table.rows, table.lines) == (
        ("FID", "IID", "y"),
        [["1", "a", "2"], ["2", "b c", "3"]],
        [2, 4],
    )


def test_the_delimiter_is_sought_outside_quotes(tmp_path):
    assert read_table(written(tmp_path, '"a,b,c";d\n1;2\n')).columns == ("a,b,c", "d")
    assert read_table(written(tmp_path, '"a\tb",d\n1,2\n')).columns == ("a\tb", "d")
    assert read_table(written(tmp_path, "a b\n1 2\n"), delimiter=",").columns == ("a b",)


def test_comments_blank_lines_and_lines_within_cells(tmp_path):
    content = '# made by hand, 2020\n\nid,note\n#x,1\ns1,"two\nlines"\n , \ns2,3\n'
    table = read_table(written(tmp_path, content), comment="#")
    assert (table.columns, table.rows, table.lines) == (("id", "note"), [["s1", "two\nlines"], ["s2", "3"]], [5, 8])


def test_files_without_a_header(tmp_path):
    table = read_table(written(tmp_path, "1 a\n2 b\n"), columns=("number", "letter"))
    assert table.column("letter") == ["a", "b"]
    assert table.lines == [1, 2]
    assert table_of(tmp_path / "x", "a,b\n1,2\n").rows == [["1", "2"]]
    assert list(read_records(written(tmp_path, "a,b\n\n1,2\n"))) == [(1, ["a", "b"]), (3, ["1", "2"])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the table is empty"),
        ("\n \n", "the table is empty"),
        ("id,y\ns1,1\ns2\n", ":3: 1 values, and the table has 2 columns"),
        ("id,y\n\ns1,1,2\n", ":3: 3 values, and the table has 2 columns"),
        ("id,y,y\n", ":1: columns 2 and 3 are both called `y`"),
        ("id,, \n", ":1: columns 2 and 3 have no name"),
        ("id,y\ns1,1\ns2,\0\n", ":3: a zero byte"),
        (b"id,y\ns1,1\ns\xe42,2\n", ":3: not UTF-8 text (byte 0xe4 after 1 characters"),
        ("id,y\nKälte,1\n".encode("utf-16"), ":1: not UTF-8 text (byte 0xff"),
        ('id,y\ns1,"1\ns2,2\n', ":2: not a line of a table"),
        ('id,y\ns1,"1"x\n', ":2: not a line of a table"),
        ("id,y\ns1," + "1" * (2**20 + 1) + "\n", ":2: not a line of a table (field larger"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_refused(tmp_path, content, message, packed):
    content = content if isinstance(content, bytes) else content.encode()
    assert message in refused(written(tmp_path, gzip.compress(content) if packed else content))


def test_hints_for_what_programs_write(tmp_path):
    with pytest.raises(InputError) as trouble:
        read_table(written(tmp_path, '"y" "z"\n"s1" 1 2\n'))
    assert "col.names=NA" in trouble.value.problems[0].hint
    table = read_table(written(tmp_path, "id;y\na;1,5\n"))
    with pytest.raises(InputError, match=r":2: `1,5` in column `y`") as trouble:
        table.numbers("y")
    assert trouble.value.problems[0].hint == "write decimals with a point"


def test_files_that_cannot_be_read(tmp_path):
    assert "there is no such file" in refused(tmp_path / "nowhere.csv")
    assert "this is a directory" in refused(tmp_path)
    assert "a zip archive or a spreadsheet" in refused(written(tmp_path, b"PK\x03\x04" + b"\0" * 40))
    with pytest.raises(InputError) as trouble:
        read_table(tmp_path / "nowhere.csv", absent_hint="check source.phenotypes")
    assert trouble.value.problems[0].hint == "check source.phenotypes"


def test_truncated_and_damaged_gzip(tmp_path):
    rng = random.Random(0)
    whole = gzip.compress(("id,y\n" + "".join(f"s{n},{rng.random()}\n" for n in range(5000))).encode())
    assert re.search(r"damaged after line \d{3,}", refused(written(tmp_path, whole[: len(whole) // 2])))
    for length in (2, 9, 11, len(whole) - 9, len(whole) - 1):
        assert "damaged after line" in refused(written(tmp_path, whole[:length]))
    for place in (-6, *range(20, len(whole), len(whole) // 30)):  # the checksum, and what is packed
        damaged = bytearray(whole)
        damaged[place] ^= 255
        refused(written(tmp_path, bytes(damaged)))
    assert "damaged" in refused(written(tmp_path, whole + b"garbage"))


def test_a_table_that_does_not_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(text_table, "_CHECKED_EVERY", 100)
    monkeypatch.setattr(text_table, "_EXPANSION", 2**45)
    content = gzip.compress(b"id,y\n" + b"s1,1\n" * 100)
    assert "GB of memory" in refused(written(tmp_path, content))


def test_a_line_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(text_table, "_LONGEST_LINE", 1000)
    assert ":2: a line of more than 1000 characters" in refused(written(tmp_path, "a,b\n" + "1," * 1000))


@pytest.mark.parametrize("cell", ["abc", "inf", "-Infinity", "1_000", "1e999", "0x1F", "1,5", "--"])
def test_cells_that_are_no_numbers(tmp_path, cell):
    table = read_table(written(tmp_path, f'id,y\na,1\nb,"{cell}"\n'))
    with pytest.raises(InputError, match=rf"table.csv:3: `{cell}` in column `y` is not a finite number"):
        table.numbers("y")


def test_missing_texts(tmp_path):
    table = read_table(written(tmp_path, "id,y\na,-9\nb,2\n"))
    np.testing.assert_array_equal(table.numbers("y", missing=("-9",)), [math.nan, 2])
    assert math.isnan(parsed("NA"))
    assert parsed("NA", ("-",)) is None
    assert parsed(" 1e-3 ".strip()) == 0.001


def test_ids_are_there_once(tmp_path):
    assert read_table(written(tmp_path, "id,y\na,1\nb,2\n")).unique("id", "samples") == ["a", "b"]
    with pytest.raises(InputError, match=r":5: `a` in column `id` is on line 2 already"):
        read_table(written(tmp_path, "id,y\na,1\nb,2\n\na,3\n")).unique("id", "samples")
    with pytest.raises(InputError, match=r":3: an empty id in column `id`"):
        read_table(written(tmp_path, "id,y\na,1\n,2\n")).unique("id", "samples")


def test_cells_in_messages_are_printable_and_short():
    assert shown("a\x1b[31m\nb") == "a?[31m?b"
    assert len(shown("x" * 10**6)) == 60


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r")), min_size=2, max_size=2)))
def test_any_texts_come_back(tmp_path_factory, rows):
    import csv
    import io

    stream = io.StringIO(newline="")
    csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["id", "text"], *rows])
    path = tmp_path_factory.mktemp("texts") / "table.csv"
    path.write_text(stream.getvalue(), encoding="utf-8", newline="")
    kept = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    assert read_table(path).rows == kept


def test_whole_texts(tmp_path):
    assert read_text(written(tmp_path, "a\r\nä\n".encode("utf-8-sig"))) == "a\r\nä\n"

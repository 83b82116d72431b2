"""Lists of people: a mistake in a row names the line, and nobody is left out in silence."""

from __future__ import annotations

import sys

import pytest

from mfs_deploy.batch.people import PersonEntry, read_people
from mfs_deploy.errors import MissingExtra, UsageError

POINTS = "203,101,247,103,225,126,204.4,140.4,243.6,141.6"


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes):
        path = tmp_path / "people.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_paths_are_relative_to_the_table_and_everything_else_is_taken_over(table, tmp_path):
    rows = f'a, x/1.jpg ,,"{POINTS}",,\nb,/abs/2.jpg,,,true,\nc,,i.safetensors,,,\nd,4.jpg,,,0,2\n'
    text = f"id,photo,identity,landmarks,aligned,face\n{rows}"
    assert read_people(table(text)) == [
        PersonEntry("a", photo=str(tmp_path / "x/1.jpg"), landmarks=POINTS),
        PersonEntry("b", photo="/abs/2.jpg", aligned=True),
        PersonEntry("c", identity=str(tmp_path / "i.safetensors")),
        PersonEntry("d", photo=str(tmp_path / "4.jpg"), face=2),
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfid,photo\na,1.jpg\n",
        b"id,photo\r\na,1.jpg\r\n",
        b"photo,id\n1.jpg,a",
        b"id,photo\n\na,1.jpg\n\n",
        b'id,photo\n"a","1.jpg"\n',
    ],
    ids=["byte order mark", "Windows", "no newline at the end", "empty lines", "quoted"],
)
def test_what_spreadsheets_write_is_read(table, tmp_path, text):
    assert read_people(table(text)) == [PersonEntry("a", photo=str(tmp_path / "1.jpg"))]


@pytest.mark.parametrize(
    "ident", ["..", ".", ".x", "", "a/b", "/a", "a\\b", "a b", "ä", "a\nb", "x" * 81, "a.rejected", "a:b", "~"]
)
def test_an_id_that_cannot_name_a_folder_is_refused(table, ident):
    with pytest.raises(UsageError, match=r"people.csv, line [34]: the id"):
        read_people(table(f'id,photo\nfine,1.jpg\n"{ident}",2.jpg\n'))


@pytest.mark.parametrize("ident", ["a", "A", "0", "-", "_", "a..b", "x" * 80, "a.b.partial", "CON"])
def test_ids_that_can_name_a_folder_are_accepted(table, ident):
    assert [row.id for row in read_people(table(f"id,photo\n{ident},1.jpg\n"))] == [ident]


@pytest.mark.parametrize(
    ("rows", "line", "says"),
    [
        ("a,1.jpg,,,,\na,2.jpg,,,,", 3, "'a' is taken"),
        ("journal.jsonl,1.jpg,,,,", 2, "is taken"),
        ("a,,,,,", 2, "exactly one of photo and identity"),
        ("a,1.jpg,i.safetensors,,,", 2, "exactly one of photo and identity"),
        ("a,1.jpg,,,,,", 2, "more values than columns"),
        ("\n\na,1.jpg,,,yes,", 4, "aligned is 'yes'"),
        ("a,1.jpg,,,,0", 2, "face is '0'"),
        ("a,1.jpg,,,,-1", 2, "face is '-1'"),
        ("a,1.jpg,,,,1.5", 2, "face is '1.5'"),
        ("a,1.jpg,,,,²", 2, "face is"),
        ("a,1.jpg,,,," + "9" * 5000, 2, "face is"),
        ('a,1.jpg,,"1,2,3",,', 2, "3 values; 10 are needed"),
        ('a,1.jpg,,"1,2,3,4,5,6,7,8,9,nan",,', 2, "finite"),
        (f'a,1.jpg,,"{POINTS}",true,', 2, "exclude each other"),
        (f'a,1.jpg,,"{POINTS}",,1', 2, "exclude each other"),
        (f'a,,i.safetensors,"{POINTS}",,', 2, "exclude each other"),
        ("a,,i.safetensors,,1,", 2, "exclude each other"),
        ("a,1\0.jpg,,,,", 2, "NUL byte"),
        ('"a\nb",1.jpg,,,,', 3, "cannot name"),
    ],
)
def test_a_mistake_names_its_line(table, rows, line, says):
    with pytest.raises(UsageError) as raised:
        read_people(table(f"id,photo,identity,landmarks,aligned,face\n{rows}\n"), taken=("journal.jsonl",))
    message = raised.value.message
    assert message.startswith(f"people.csv, line {line}:"), message
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize("row", ['b,"2.jpg\nc,3.jpg', 'b,"2.jpg"x', "b," + "x" * 200_000], ids=["open quote", "quote", "long"])
def test_an_open_quote_does_not_swallow_the_people_after_it(table, row):
    with pytest.raises(UsageError, match=r"people\.csv is not CSV in UTF-8 after line 2: "):
        read_people(table(f"id,photo\na,1.jpg\n{row}\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"id,photo,name\na,1.jpg,Zoe\n", "'name'"),
        (b"id;photo\na;1.jpg\n", "'id;photo'"),
        (b"id,photo,photo\na,1.jpg,2.jpg\n", "duplicated"),
        (b"a,1.jpg\n", "unknown"),
        (b"photo\n1.jpg\n", "the id ''"),
        (b"id,photo\na,\xff.jpg\n", "UTF-8"),
        ("id,photo\na,1.jpg\n".encode("utf-16"), "UTF-8"),
        (b"", "lists no people"),
        (b"id,photo\n", "lists no people"),
    ],
)
def test_what_is_no_table_of_people_is_refused(table, text, says):
    with pytest.raises(UsageError) as raised:
        read_people(table(text))
    assert says in raised.value.message
    assert "people.csv" in raised.value.message


def test_a_list_that_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nobody\.csv cannot be read: No such file"):
        read_people(tmp_path / "nobody.csv")


def test_a_folder_gives_a_person_for_each_photo_and_identity(tmp_path):
    for name, content in {
        "b.jpg": b"\xff\xd8\xff\xe0",
        "a.safetensors": b"",
        "notes.txt": b"hello",
        ".hidden.jpg": b"\xff\xd8\xff\xe0",
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "more").mkdir()
    found = read_people(tmp_path)
    assert found == [PersonEntry("a", identity=str(tmp_path / "a.safetensors")), PersonEntry("b", photo=str(tmp_path / "b.jpg"))]


@pytest.mark.parametrize(
    ("names", "says"), [(("a.jpg", "a.png"), "a.png: the id 'a' is taken"), (("my photo.jpg",), "my photo.jpg: ")]
)
def test_a_file_whose_name_is_no_id_is_named(tmp_path, names, says):
    for name in names:
        (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UsageError) as raised:
        read_people(tmp_path)
    assert raised.value.message.startswith(says)


def test_an_empty_folder_lists_no_people(tmp_path):
    with pytest.raises(UsageError, match="lists no people"):
        read_people(tmp_path)


@pytest.fixture
def parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def write(**columns: list):
        parquet.write_table(pyarrow.table(columns), tmp_path / "people.parquet")
        return tmp_path / "people.parquet"

    return write


def test_a_parquet_table_is_read_as_a_csv_would_be(parquet, tmp_path):
    found = read_people(
        parquet(
            id=["a", "b", "c", "7"],
            photo=["1.jpg", None, "3.jpg", "/abs/4.jpg"],
            identity=[None, "i.safetensors", "", None],
            landmarks=[POINTS, None, None, None],
            aligned=[None, False, True, None],
            face=[None, float("nan"), None, 2.0],
        )
    )
    assert found == [
        PersonEntry("a", photo=str(tmp_path / "1.jpg"), landmarks=POINTS),
        PersonEntry("b", identity=str(tmp_path / "i.safetensors")),
        PersonEntry("c", photo=str(tmp_path / "3.jpg"), aligned=True),
        PersonEntry("7", photo="/abs/4.jpg", face=2),
    ]
    assert read_people(parquet(id=[1, 2], photo=["1.jpg", "2.jpg"])) == [
        PersonEntry("1", photo=str(tmp_path / "1.jpg")),
        PersonEntry("2", photo=str(tmp_path / "2.jpg")),
    ]


def test_a_mistake_in_a_parquet_table_names_its_row(parquet, tmp_path):
    with pytest.raises(UsageError, match=r"people\.parquet, row 2: face is '1\.5'"):
        read_people(parquet(id=["a", "b"], photo=["1.jpg", "2.jpg"], face=[1.0, 1.5]))
    with pytest.raises(UsageError, match=r"columns \['name'\] are unknown"):
        read_people(parquet(id=["a"], name=["1.jpg"]))
    (tmp_path / "people.parquet").write_bytes(b"id,photo\n")
    with pytest.raises(UsageError, match=r"people\.parquet is not Parquet after row 0"):
        read_people(tmp_path / "people.parquet")
    with pytest.raises(UsageError, match=r"nobody\.parquet cannot be read: No such file"):
        read_people(tmp_path / "nobody.parquet")


def test_parquet_without_pyarrow_names_the_extra(parquet, monkeypatch):
    path = parquet(id=["a"], photo=["1.jpg"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra) as raised:
        read_people(path)
    assert '".[batch]"' in raised.value.hint

"""Polluted text tables, one fault each, with the rows and ids that must come out.

The letters D1 to D26 are those of the fault model: what a recommender's input suffers in the wild.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from recae.data.readers import read_interactions
from recae.errors import DataError

LENIENT: Mapping[str, object] = {"max_bad_rows": 0.9}


@dataclass(frozen=True)
class Good:
    name: str
    text: bytes
    users: list[str]
    items: list[str]
    kept: int
    dropped: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    merged: int = 0
    options: Mapping[str, object] = field(default_factory=lambda: LENIENT)


@dataclass(frozen=True)
class Bad:
    name: str
    text: bytes
    message: str
    options: Mapping[str, object] = field(default_factory=dict)


H = b"user,item,rating\n"
NFC, NFD = "caf\u00e9", "cafe\u0301"
LONG = "x" * 5000

GOOD = [
    Good("D1 latin-1 rows are dropped, not merged", b"user,item\nRen\xe9,a\nRen\xe8,a\nu,a\n",
         ["u"], ["a"], 1, {"not_utf8": (2, 3)}),
    Good("D1 overlong and surrogate", b"user,item\n\xc0\xaf,a\n\xed\xa0\x80,a\nu,a\n",
         ["u"], ["a"], 1, {"not_utf8": (2, 3)}),
    Good("D1 not UTF-8 in a column that is not used", b"user,item,note\nu,a,\xe9\nv,b,x\n",
         ["v"], ["b"], 1, {"not_utf8": (2,)}),
    Good("D2 byte-order mark", b"\xef\xbb\xbf" + H + b"u,a,1\n", ["u"], ["a"], 1),
    Good("D2 byte-order mark and quotes", b'\xef\xbb\xbf"user","item"\n"u","a"\n', ["u"], ["a"], 1),
    Good("D3 NUL and escapes in ids", b"user,item\nu\x00v,a\nu\x1b[31m,a\nu,a\x7f\nu,a\n",
         ["u"], ["a"], 1, {"control_character": (2, 3, 4)}),
    Good("D3 C1 control", "user,item\nu\x9bv,a\nu,a\n".encode(), ["u"], ["a"], 1,
         {"control_character": (2,)}),
    Good("D3 tab inside an id", b"user,item\nu\tv,a\nu,a\n", ["u"], ["a"], 1,
         {"control_character": (2,)}),
    Good("D3 control characters where no id is", b"user,item,note\nu,a,x\ty\n", ["u"], ["a"], 1),
    Good("D4 normal forms stay apart", f"user,item\n{NFC},a\n{NFD},a\n".encode(),
         [NFC, NFD], ["a"], 2),
    Good("D4 zero-width, no-break, right-to-left",
         "user,item\nu\u200b,a\nu\u00a0,a\n\u202eu,a\nu,a\n".encode(),
         ["u\u200b", "u\u00a0", "\u202eu", "u"], ["a"], 4),
    Good("D5 CRLF", b"user,item\r\nu,a\r\nv,b\r\n", ["u", "v"], ["a", "b"], 2),
    Good("D5 CR only", b"user,item\ru,a\rv,b\r", ["u", "v"], ["a", "b"], 2),
    Good("D5 mixed ends, blank lines, no final end", b"user,item\r\n\r\nu,a\n\n\rv,b\rw,c",
         ["u", "v", "w"], ["a", "b", "c"], 3),
    Good("D5 line numbers count blank lines", b"\n\nuser,item\n\nu,\n\nu,a\n", ["u"], ["a"], 1,
         {"empty_item": (5,)}),
    Good("D6 quoted separator and doubled quotes", b'user,item,note\n"u,1","a ""b"" c",x\nv,b,y\n',
         ["u,1", "v"], ['a "b" c', "b"], 2),
    Good("D6 line break in quotes", b'user,item,note\nu,a,"two\r\nlines"\nv,b,"one"\nv,,x\n',
         ["u", "v"], ["a", "b"], 2, {"empty_item": (5,)}),
    Good("D6 line break in an id", b'user,item\n"Jo\nAnn",a\nu,"b\r\nc"\nv,d\nw,\n',
         ["v"], ["d"], 1, {"malformed": (2, 4), "empty_item": (7,)}),
    Good("D6 line break in a rating", H + b'u,a,"1\n2"\nv,b,1\n', ["v"], ["b"], 1,
         {"malformed": (2,)}),
    Good("D6 line break in a row too short", H + b'u,"a\nAnn,b,1"\nv,b,1\n', ["v"], ["b"], 1,
         {"malformed": (2,)}),
    Good("D6 everything quoted", b'"user","item"\n"u","a"\n"v","b"\n', ["u", "v"], ["a", "b"], 2),
    Good("D6 quoted empty id", b'user,item\n"",a\nu,a\n', ["u"], ["a"], 1, {"empty_user": (2,)}),
    Good("D6 a quote inside a plain field", b'user,item\nu,5" disk\n', ["u"], ['5" disk'], 1),
    Good("D7 quote never closed, in the middle", b'user,item\nu,a\nv,"b\nw,c\nx,"d"\n',
         ["u", "w", "x"], ["a", "c", "d"], 3, {"malformed": (3,)}),
    Good("D7 quote never closed, first", b'user,item\n"u,a\nv,b\nw,c\n',
         ["v", "w"], ["b", "c"], 2, {"malformed": (2,)}),
    Good("D7 quote never closed, at the end", b'user,item\nu,a\nv,"b',
         ["u"], ["a"], 1, {"malformed": (3,)}),
    Good("D7 two halves of a quote do not swallow the rows between",
         b'user,item,rating\nu,"a,1\nv,b,1\nw,c",1\nx,d,1\n',
         ["v", "w", "x"], ["b", 'c"', "d"], 3, {"malformed": (2,)}),
    Good("D8 text after a closing quote", b'user,item\n"u"v,a\nu,a\n', ["u"], ["a"], 1,
         {"malformed": (2,)}),
    Good("D8 backslash escapes", b'user,item\n"u\\"v",a\nu,a\n', ["u"], ["a"], 1,
         {"malformed": (2,)}),
    Good("D9 semicolon", b"user;item;rating\nu;a;1\n", ["u"], ["a"], 1),
    Good("D9 tab", b"user\titem\nu\ta\n", ["u"], ["a"], 1),
    Good("D9 pipe", b"user|item\nu|a\n", ["u"], ["a"], 1),
    Good("D9 two colons", b"user::item\nu::a\nv::b\n", ["u", "v"], ["a", "b"], 2),
    Good("D9 two colons know no quotes", b'user::item\n"u::a"\n', ['"u'], ['a"'], 1),
    Good("D9 three colons", b"user::item\nu:::a\n", ["u"], [":a"], 1),
    Good("D9 announced by Excel", b"sep=;\nuser;item\nu;a\nv;\n", ["u"], ["a"], 1,
         {"empty_item": (4,)}),
    Good("D9 any separator that is named", b"user~~item\nu~~a\n", ["u"], ["a"], 1,
         options={"sep": "~~"}),
    Good("D9 decimal comma between semicolons", b"user;item;rating\nu;a;4,5\nu;b;4\n",
         ["u"], ["b"], 1, {"bad_rating": (2,)}),
    Good("D10 aliases in any case", b"MovieId,UserID,Timestamp\na,u,1500000000\n", ["u"], ["a"], 1),
    Good("D10 RecBole types", b"user_id:token\titem_id:token\trating:float\nu\ta\t1\n",
         ["u"], ["a"], 1),
    Good("D10 Amazon names", b"reviewerID,asin\nu,a\n", ["u"], ["a"], 1),
    Good("D10 blanks around names", b"user , item,\tRating\nu,a,1\nuser , item,\tRating\n", ["u"],
         ["a"], 1, {"repeated_header": (3,)}),
    Good("D10 a blank in a name that is given", b"user, what\nu,a\n", ["u"], ["a"], 1,
         options={"item_col": "what"}),
    Good("D10 names of published data sets", b"Game_ID,User-ID,Book-Rating\na,u,1\n", ["u"],
         ["a"], 1),
    Good("D10 a column of that name is not the position", b"user,item,2\nu,a,b\n", ["u"], ["b"], 1,
         options={"item_col": "2"}),
    Good("D10 two columns of one name, by position", b"user,item,rating,rating\nu,a,x,1\n", ["u"],
         ["a"], 1, options={"rating_col": "4", "user_col": "1"}),
    Good("D9 a tab as a shell hands it over", b"user\titem\nu\ta\n", ["u"], ["a"], 1,
         options={"sep": r"\t"}),
    Good("D10 named columns", b"x,who,what\n1,u,a\n", ["u"], ["a"], 1,
         options={"user_col": "who", "item_col": "what"}),
    Good("D10 named columns settle an ambiguity", b"user,uid,item\n1,u,a\n", ["u"], ["a"], 1,
         options={"user_col": "uid"}),
    Good("D10 no header", b"u,a\nv,b\n", ["u", "v"], ["a", "b"], 2, options={"header": False}),
    Good("D10 no header, positions", b"5,a,u\n4,b,v\n", ["u", "v"], ["a", "b"], 2,
         options={"header": False, "user_col": "3", "item_col": "2", "rating_col": "1"}),
    Good("D11 a repeated column that is not used", b"user,item,x,x\nu,a,1,2\n", ["u"], ["a"], 1),
    Good("D12 joined files", b"user,item\nu,a\nuser,item\nv,b\n", ["u", "v"], ["a", "b"], 2,
         {"repeated_header": (3,)}, options={}),
    Good("D12 joined files with ratings", H + b"u,a,1\n" + H + b"v,b,2\n", ["u", "v"], ["a", "b"],
         2, {"repeated_header": (3,)}, options={}),
    Good("D12 a user called user", b"user,item\nuser,a\nu,item\n", ["user", "u"], ["a", "item"], 2),
    Good("D14 one row", b"user,item\nu,a\n", ["u"], ["a"], 1),
    Good("D15 short and long rows", b"user,item,rating\nu,a\nu,a,1,2\nu,b,1\n", ["u"], ["b"], 1,
         {"malformed": (2, 3)}),
    Good("D16 total line", b"user,item,rating\nu,a,1\nTOTAL,1\n", ["u"], ["a"], 1,
         {"malformed": (3,)}),
    Good("D17 leading zeros", b"user,item\n007,0\n7,00\n7.0,0000\n", ["007", "7"],
         ["0", "00", "0000"], 3),
    Good("D17 leading zeros, as written", b"user,item\n007,0\n7,00\n7.0,0000\n",
         ["007", "7", "7.0"], ["0", "00", "0000"], 3, options={"ids_as_written": True}),
    Good("D17 ids that were numbers",
         b"user,item\n12.0,3.0\n12,4.0\n1.5,a.0\n-7.0,3\n01.0,3.00\n",
         ["12", "1.5", "-7", "01.0"], ["3", "4", "a.0", "3.00"], 5),
    Good("D18 integers with a gap", b"user,item\n101,1\n,2\n102,3\n", ["101", "102"], ["1", "3"],
         2, {"empty_user": (3,)}),
    Good("D19 words of other readers", b"user,item\nNA,null\nNone,nan\ninf,true\n",
         ["NA", "None", "inf"], ["null", "nan", "true"], 3, options={"ids_as_written": True}),
    Good("D19 words for a missing id", b"user,item\nnan,a\nNaN,a\nnull,a\nNULL,a\nNone,a\nNA,a\n"
         b"N/A,a\n<NA>,a\nu,nan\nu,NA\nnana,none\nNan,na\n", ["nana", "Nan"], ["none", "na"], 2,
         {"missing_user": tuple(range(2, 10)), "missing_item": (10, 11)}),
    Good("D20 beyond 2^53 and 2^64",
         b"user,item\n9007199254740993,18446744073709551617\n9007199254740992,1e5\n",
         ["9007199254740993", "9007199254740992"], ["18446744073709551617", "1e5"], 2),
    Good("D20 ids too long", f"user,item\n{LONG},a\nu,{LONG}\nu,a\n".encode(), ["u"], ["a"], 1,
         {"id_too_long": (2, 3)}),
    Good("D20 longer ids allowed", f"user,item\n{LONG},a\n".encode(), [LONG], ["a"], 1,
         options={"max_id_length": 5000}),
    Good("D21 empty and blank ids", "user,item\n,a\n  ,a\n\u00a0,a\nu,\nu, \nu,a\n".encode(),
         ["u"], ["a"], 1, {"empty_user": (2, 3, 4), "empty_item": (5, 6)}),
    Good("D21 spaces around ids stay", b"user,item\n u,a \nu,a\n", [" u", "u"], ["a ", "a"], 2),
    Good("D22 options, formulas, paths", b"user,item\n-1,--help\n=1+1,<b>\n../..,{{x}}\n",
         ["-1", "=1+1", "../.."], ["--help", "<b>", "{{x}}"], 3),
    Good("D23 ratings that are none", H + b"u,a,nan\nu,b,inf\nu,c,1e400\nu,d,five\nu,e,\nu,f,yes\n"
         b"u,g,0x10\nu,h,1_0\nu,i,4\n", ["u"], ["i"], 1, {"bad_rating": (2, 3, 4, 5, 6, 7, 8, 9)}),
    Good("D23 ratings that are numbers", H + b"u,a,-1\nu,b,0\nu,c,+2\nu,d, 3 \nu,e,1e-3\nu,f,.5\n",
         ["u"], list("abcdef"), 6),
    Good("D23 ratings that are yes or no", H + b"u,a,True\nu,b,FALSE\nu,c,true\n", ["u"],
         ["a", "c"], 2, {"below_min_rating": (3,)}, options={"min_rating": 1}),
    Good("D23 minimum", H + b"u,a,-1\nu,b,3.99\nu,c,4\nu,d,4.5\n", ["u"], ["c", "d"], 2,
         {"below_min_rating": (2, 3)}, options={"min_rating": 4}),
    Good("D24 times that are none", b"user,item,ts\nu,a,1500000000\nu,b,soon\nu,c,\nu,d,nan\n"
         b"u,e,0x10\nu,f,99999999999999999999\n", ["u"], ["a"], 1, {"bad_time": (3, 4, 5, 6, 7)}),
    Good("D24 a hexadecimal time", b"user,item,ts\nu,a,1500000000\nu,b,0x10\n", ["u"], ["a"], 1,
         {"bad_time": (3,)}),
    Good("D26 repeated pairs", b"user,item\nu,a\nu,a\nv,a\nu,a\n", ["u", "v"], ["a"], 2, merged=2),
    Good("the first reason counts", b"user,item,rating\n,,x\nu,a,1\n", ["u"], ["a"], 1,
         {"empty_user": (2,)}),
]  # fmt: skip

BAD = [
    Bad("D1 latin-1 file", b"user,item\n" + "é,è\n".encode("latin-1") * 9,
        r"9 of 9 rows are malformed \(not_utf8 9\), the first in line 2"),
    Bad("D1 latin-1 header", "user,item,é\nu,a,b\n".encode("latin-1"),
        "line 1, byte 1 is not UTF-8; if it is Latin-1, save it as UTF-8"),
    Bad("D1 latin-1 rows", b"user,item\n" + "é,è\n".encode("latin-1") * 9,
        "if it is Latin-1, save it"),
    Bad("JSON lines", b'{"user": 1, "item": 2}\n', "is JSON; accepted: CSV or TSV"),
    Bad("JSON lines without a header", b'{"user": 1, "item": 2}\n', "is JSON", {"header": False}),
    *(
        Bad(f"lists {options} {sep!r}", b"1 2 3\n2 4 5 6\n3 7\n".replace(b" ", sep),
            "the lines hold 2 to 4 ids, a list a line; accepted: one interaction a line", options)
        for options in ({}, {"header": False}, {"header": False, "sep": ","}, {"sep": " "})
        for sep in (b" ", b",", b"\t")
    ),
    Bad("decimal commas", b"user;item;rating\nu;a;4,5\n" * 9,
        "a decimal comma is not read: write 4.5"),
    Bad("decimal commas in quotes", H + b'u,a,"4,5"\n' * 9, "a decimal comma is not read"),
    Bad("blank ratings", H + b"u,a,1\nu,b,\n",
        r"accepted: numbers; rating_col='' \(--rating-col ''\)"),
    Bad("blank times", b"user,item,time\nu,a,1\nu,b,\n",
        r"time_col='' \(--time-col ''\) leaves times"),
    Bad("dates whose order is open", b"user,item,time\nu,a,20.03.2024\nu,b,03/04/2024\n",
        "2 of 2 rows .*; accepted: counts since 1970, 20240301120000, dates such as 2024-03-01"),
    Bad("words for a missing id", b"user,item\nnan,a\n", "with ids_as_written .* they are"),
    Bad("two columns of one name", b"user,item,rating,rating\nu,a,1,2\n",
        r"settle it by position with rating_col \(--rating-col\): 3 or 4"),
    Bad("a position that is none", b"user,item\nu,a\n", "no column '3' among", {"item_col": "3"}),
    Bad("one column left for the item", b"user,rating,time,what\nu,1,1,a\n",
        r"item_col \(--item-col\), such as 'what', the only one left; sep"),
    Bad("one column left for the user", b"who,item\nu,a\n", "such as 'who', the only one left"),
    Bad("a long first line", b"x" * 14_000 + b"\n1\n", "among '" + "x" * 79 + r"\.\.\.; name it"),
    Bad("times for items", b"1,2014-04-07T10:51:09.277Z,214,0\n",
        r"column 2, taken for the item, holds times .* by position, user_col, item_col",
        {"header": False}),
    Bad("times for ratings", b"u,a,1396861869\n", "column 3, taken for the rating, holds times",
        {"header": False}),
    Bad("times beyond the next year", b"user,item,time\nu,a,253402300799\nu,b,253402300799\n",
        "2 of 2 times lie after 20.. if they are seconds, from 9999-12-31 .*; accepted: counts"),
    Bad("D2 UTF-16", "user,item\nu,a\n".encode("utf-16"), "is UTF-16"),
    Bad("D2 UTF-16 without a mark", "user,item\nu,a\n".encode("utf-16-le"), "binary or UTF-16"),
    Bad("D9 wrong separator", b"user,item\nu,a\n", "no column for the user among 'user,item'",
        {"sep": ";"}),
    Bad("D9 unknown separator", b"user item\nu a\n", "no column for the user among 'user item'"),
    Bad("D10 no header", b"1,10,4\n2,20,5\n",
        "no column for the user among '1', '10', '4'.*--no-header"),
    Bad("D10 no user", b"person,item\nu,a\n",
        "no column for the user among 'person', 'item'.*user_col \\(--user-col\\)"),
    Bad("D10 no item", b"user,thing\nu,a\n",
        "no column for the item among 'user', 'thing'.*item_col \\(--item-col\\)"),
    Bad("D10 named column missing", b"user,item\nu,a\n", "no column 'who'", {"user_col": "who"}),
    Bad("D10 two aliases", b"user,uid,item\nu,v,a\n",
        "more than one column for the user: 'user', 'uid'.*user_col \\(--user-col\\)"),
    Bad("D10 two ratings", b"user,item,rating,score\nu,a,1,2\n",
        "more than one column for the rating.*rating_col \\(--rating-col\\)"),
    Bad("D10 one column twice", b"user,item\nu,a\n", "column 'item' is both user and item",
        {"user_col": "item"}),
    Bad("D10 a header after all", b"user,item\nu,a\n", "is a header", {"header": False}),
    Bad("D10 no header, one column", b"u\nv\n",
        "1 columns without a header", {"header": False}),
    Bad("D9 two separators would do", b"1,2;3\n4,5;6\n",
        "separator may be any of ',', ';'; settle it with sep \\(--sep\\)", {"header": False}),
    Bad("D10 no header, five columns", b"u,a,1,2,3\n",
        "5 columns without a header", {"header": False}),
    Bad("D10 no header, position", b"u,a\n",
        "user_col \\(--user-col\\) is '3'", {"header": False, "user_col": "3"}),
    Bad("D11 the same name twice", b"user,item,item\nu,a,b\n",
        "more than one column for the item: 'item', 'item'"),
    Bad("D11 the same name twice, named", b"x,item,x\nu,a,b\n",
        "more than one column 'x'", {"user_col": "x"}),
    Bad("D13 empty", b"", "has no rows"),
    Bad("D13 only blank lines", b"\n\r\n\r", "has no rows"),
    Bad("D13 only a mark", b"\xef\xbb\xbf", "has no rows"),
    Bad("D13 only a header", b"user,item\n", "no usable rows among 0"),
    Bad("D15 a separator after every row", b"user,item\nu,a,\nv,b,\n", "2 of 2 rows are malformed"),
    Bad("D16 title lines", b"My export\nuser,item\nu,a\n",
        "no column for the user among 'My export'"),
    Bad("D20 a line too long", b"user,item\nu," + b"a" * (1 << 21) + b"\n",
        "a line of more than 1 MiB"),
    Bad("D23 minimum without ratings", b"user,item\nu,a\n",
        "min_rating needs a rating column", {"min_rating": 1}),
    Bad("D24 seconds and milliseconds", b"user,item,ts\nu,a,1500000000\nu,b,1500000000000\n",
        r"more than one unit: seconds \(line 2\), milliseconds \(line 3\)"),
    Bad("D24 dates and counts", b"user,item,ts\nu,a,1500000000\nu,b,2017-07-14\n",
        "counts in some rows and dates"),
    Bad("every row bad", b"user,item\n,\n,\n", "no usable rows among 2", {"max_bad_rows": 5}),
    Bad("nothing above the minimum", H + b"u,a,1\n", "no usable rows among 1", {"min_rating": 2}),
    Bad("thresholds leave nothing", b"user,item\nu,a\nv,b\n",
        r"no usable rows among 2 \(below_min_item 2\)", {"min_item": 2}),
    Bad("quotes of the header", b'"user,item\nu,a\n', "quotes of the first line do not match",
        {"sep": ","}),
    Bad("a pickle", b"\x80\x04\x95user,item\n", "a pickle, which is never opened"),
    Bad("control characters in the header", b"user,item,\x01\nu,a,b\n", "control characters"),
]  # fmt: skip


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_rows_that_must_come_out(case: Good, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(case.text)
    data = read_interactions(path, **case.options)
    assert data.users.to_arrow().to_pylist() == case.users
    assert data.items.to_arrow().to_pylist() == case.items
    report = data.report
    assert report is not None
    assert {r: d.lines for r, d in report.rows_dropped.items()} == dict(case.dropped)
    assert {r: d.rows for r, d in report.rows_dropped.items()} == {
        r: len(lines) for r, lines in case.dropped.items()
    }
    assert (report.rows_kept, report.rows_merged) == (case.kept, case.merged)
    assert report.rows_kept == data.matrix.nnz
    assert (data.matrix.data == 1).all()


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_tables_that_must_be_refused(case: Bad, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(case.text)
    with pytest.raises(DataError, match=case.message) as caught:
        read_interactions(path, **case.options)
    assert "table.csv" in str(caught.value)

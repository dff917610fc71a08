"""Lists of samples: what is unmistakable is read, in every format alike, and nothing else."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from easycoreset.errors import UsageError
from easycoreset.sample_lists import read_list_file, to_integer

SIZE = 1438
WANTED = [960, 3, 17, 41]
MASK = np.isin(np.arange(SIZE), WANTED)


def table(**options):
    text = io.StringIO()
    pd.Series(WANTED, name="index").to_csv(text, **options)
    return text.getvalue()


TEXTS = {
    "lines": "960\n3\n17\n41\n",
    "commas": "960,3, 17,41",
    "semicolons": "960;3;17;41",
    "tabs": "960\t3\t17\t41",
    "blanks": "960 3 17 41",
    "several lines": "960 3 17\n41\n",
    "comments": "# chosen by hand\n960 # the worst\n3\n\n17\n41",
    "header": "index\n960\n3\n17\n41",
    "floats": "960.0\n3.0\n17.0\n41.0",
    "a mark": "\ufeff960\n3\n17\n41",
    "named column": "score,idx\n0.1,960\n0.2,3\n0.3,17\n0.4,41",
    "row numbers, header": table(),
    "whole coreset": "index,sample_id,label,keep\n960,a,0,True\n5,b,0,False\n3,c,1,True\n17,d,1,True\n41,e,1,True",
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_texts(tmp_path, name, suffix):
    (tmp_path / f"a{suffix}").write_text(TEXTS[name])
    assert [to_integer(value) for value in read_list_file(tmp_path / f"a{suffix}", "it", SIZE)] == WANTED


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float64])
def test_arrays_and_json_alike(tmp_path, dtype):
    values = np.array(WANTED, dtype)
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", values[:, None])
    np.savez(tmp_path / "c.npz", values)
    np.savez(tmp_path / "d.npz", scores=np.zeros(4), idx=values)
    (tmp_path / "e.json").write_text(json.dumps(values.tolist()))
    for name in ("a.npy", "b.npy", "c.npz", "d.npz", "e.json"):
        assert [to_integer(value) for value in read_list_file(tmp_path / name, "it", SIZE)] == WANTED, name


def test_masks_are_of_all_samples(tmp_path):
    np.save(tmp_path / "a.npy", MASK)
    (tmp_path / "b.json").write_text(json.dumps(MASK.tolist()))
    (tmp_path / "c.csv").write_text("\n".join(map(str, MASK)))
    for name in ("a.npy", "b.json", "c.csv"):
        assert read_list_file(tmp_path / name, "it", SIZE) == sorted(WANTED)
        with pytest.raises(UsageError, match=r"mask.*\b1439\b.*\b1438$"):
            read_list_file(tmp_path / name, "it", SIZE + 1)


UNCLEAR = {
    "row numbers": (table(header=False), r"\b2 columns\b"),
    "two columns": ("a,b\n1,2\n3,4", r"\b2 columns\b.*\(a, b\)"),
    "three columns": ("1,900,700\n2,800,600\n3,1001,500", r"\b3 columns\b"),
    "keep that is no keep": ("index,keep\n1,yes\n2,no", "column keep.*'(yes|no)'"),
    "ragged names": ("a.png,b.png\nc.png", r"\b1 to 2\b"),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_is_not_unmistakable_is_refused(tmp_path, name):
    text, match = UNCLEAR[name]
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UsageError, match=match):
        read_list_file(tmp_path / "a.csv", "it", SIZE)


def test_of_unnamed_arrays_none_is_taken(tmp_path):
    np.savez(tmp_path / "a.npz", scores=np.zeros(4), chosen=np.arange(4))
    with pytest.raises(UsageError, match=r"array.*\bscores, chosen\b"):
        read_list_file(tmp_path / "a.npz", "it", SIZE)
    np.save(tmp_path / "b.npy", np.zeros((2, 2)))
    with pytest.raises(UsageError, match="one-dimensional"):
        read_list_file(tmp_path / "b.npy", "it", SIZE)


@pytest.mark.parametrize("value", [True, 0.5, "0.5", "a", float("nan"), "inf"])
def test_what_is_no_index(value):
    with pytest.raises((ValueError, OverflowError)):
        to_integer(value)

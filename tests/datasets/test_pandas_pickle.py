# SPDX-License-Identifier: Apache-2.0
"""Pickled data frames: those of old and new pandas are read, and nothing else is run."""

import base64
import gzip
import io
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.datasets.pandas_pickle import read_frame
from pointdistill_ros.errors import InputError

# DataFrame({"x": arange(3.), "y": arange(3.), "i": arange(3.), "d": [0, 1, 0]}), then the rows with
# d == 0, pickled by real releases with protocol 4: zlib, base 85. 3.1.1: names in a StringArray.
RELEASES = {
    "1.0.5": (
        "c-n<i-"
        ")q!B5YFb3vsQ~1T2zFB59;YdXrX8y1b<Y78a%=G5;n=U8%_3({ZV`1fj+b%>|4hd|5=^g+(E9bx{zdNc4oeBCf"
        "|OIe*WqOe%aMA6(v<kF_J7fkhEc7ufC?5zVZ7rc=QdXFtBk}q7&>!H@*^@NkMCsG*r+-"
        "CKcH0uj*0p>0N8L`Gb8daC<SaWXDV;IaP?aoC)?h+jBll;MZ(C-#g@}1zs1X8Bf~u#?-"
        "o^Qql?HWs(&mp|muG#uOX-"
        "K(JR3&WD^q8l1o`$>BSEfI&*q=mhw>jY~ZlyB2Nueg|Vx(w_G$`2xe?@a=D0{*^x0kpFO9kYlg}i<1hU5*YezB"
        ";2Hi<`lE}ioJVTqsWQLs=!|NgnqK!>5s4SHGa!6<ag%$LNqpPSe;|_>>R7WvD&>E%vL!20=oI*mJdVH7wh-"
        "Z@YEw5EFkcm%j$0ii|fVzY>$5dlX%Rh9lk+_ujjeKZ~SE-Jv8pQAHeVP2mB%Hboh@fGRxuv+8xOhY=1M^+D^7w"
        "eNp^Dz?W@5cgj_OFwWmUqP1}+FYQuuC^I}nc`xOrLh%XQ#;UFg=H-"
        "PG^+Pm{NyStCkvHgzW?p8L7fObL!|UY)J-=#M!!-2@-^YqnYrI2KFnRI^)yYcO"
    ),
    "1.2.5": (
        "c-n<iU2D`p6iu?(wN{H3ELDVp59;beXrX8y1V1W54X)sO36o@YCv`Hr%!loQ1$}5$n73a4kN-^XOm-"
        "pLRvkz(bLXBp=iZ$8694?w3H-3D6Cz5Yl42}rGL)pIV6VO=n!NGzGkEkBj-hYktR6|Q8}0N;XetHaDyfMeBPtc"
        "x>#z8@`1r0_H}L*G;%_ekOL|0Ak`sk=%bB2u*`A9bfL*iQ`P>tiC<g4BF!f~Gz-"
        "z;GMWiHC<jW*2#zJXn3XKrk^@(7wAe~P+gETmS-7tr5@B#X1n8qi-)@--"
        "b(}}ClM(=kpCk>nZjtxJ<U@&<58;5_T&o$&fTovIF*bom7D|||z7`L%-jT)F!M6(rp_p(A!6O~ngweAW1WV=-"
        "#TV=P{x>LyR%=JaM*sxJ`PSvw>ssg8K_hv8~(d-KtW{(>^6h&V=zmrC%o?*Daz;-S>e=}GdFaEdo{1-Sw&-"
        "t{aH)!egI#<|@zci$Si+k<|u>0%*dq`Uq{sR@xP^?edEjb3;+f25$ldZ;I1b+~)W!uZ0a}^+si}yYeZrsjGyM)"
        "%ya1-sll$#38Cve(Tyeg=-"
        "7k1P)(Ksa)OW6UdF&59F)F^M13=N03%Ncrp)3Tas;vK$^Clamk4mp9@kdu+0t`pA3hbk-"
        "01o?=j87DdA3cf3oCw~CZ<68U"
    ),
    "1.5.3": (
        "c-n=M-)j^x5XX1-"
        "_WV_`mZBCEAAG70E<T7qu%cKg)TJl*UP5*^cL~krmLyAi&_aFa*+Skr{=IgR^Kh>%G_WDLo5}Yx^PS`L&&OUAm"
        "Ro74s;J4zv1Zv&)0%<1`;A(<70&1I@)sPzx=Tqt(%_zV!-"
        "cX;D=JM^Q$<Hi8*ul(%5k~3GrMEDd;BkhNKu&oDd3h#s~S=6Nk$5v<AWcmwr(b~*XveVLA9n6e3fWcj+L>xEv*"
        "mihd^+*@$C?D4taC}n{ffZ;U}!;ao)?5Dez_2uk57pmAGX19?ni@|My(H0fWKd`(IpP%OeZL+2-"
        "qLaecYz4w&Zd6s<s9g?06f6eSBl$PjzEJn=hU;t%+W$K<PX$T&c*xkPl(__OQ49$pfTyfA-(8fjN$3cG06+M-"
        "VtJ76X&s6lt{5yke&w*L(w`8(I2pM%d8dJk7Y)02StW1)kGmpb^_gL?V+09=gr!~(wxm~T<4{6G!bsc*#x_w+h"
        "Kbd_mQBILHRZ{Kvl_@}E(30_`x8k2Mzvolj-e#7a-8Nk8z#m$GD)XdUQ?Jk-|t;O*@0(XlHB^`z16Ds9+-"
        ";k<p&{Ap{k+fhqyQiitvI~!zFuV"
    ),
    "3.1.1": (
        "c-n<iL2J}N6i#-tt8LXP1?{0Ic&eA+Q9;nQi(-Qj>QTxtNoJF<$t287=msq6p=%4{sm~wk&6~cN-"
        "O$}CIFMl`^S*iC`@VT!ydU5DjvabfQ=U)>dTm4%eJyCo;1ZsEg;Uto9w}1+`r$mrk1N6aoGT_cEu>#kPE#fjdu"
        "zX_;>o-D9^v}_0zryAl2;JWo221&9#0BJB7?EPyeaF}C-"
        "(ZXDO65{pe<fY1dA&!m1tsRA_q1S^bNe+hFn76oWX$`!8bU9-"
        "M|g{L2m}xrXD1!txYMqH+}{e=kxQvc3(gkhKIj#*eP%nL>C87oz?N`e|tcfz8N(+(&bp#Ko)t-EFt9Jnsh<W%-"
        "KeEC%b28W?LOe*OJ`Uy?lvUw(~DycdsROOycY@=J1xY%-|UP+Fms(VN)jkh)M=}op5$S-"
        "kN_%GIR8xTU(<OG#~WVifvY6ENzF7x}9Db7moJK$v%xIEHMh-UcfrQ#s?*Gp6)FyI(#(z>4jDcr#l;U?hNZzWf"
        "g}vpMTBko0+)36!XrkUhh||{B+IAmqsz8gF6N7;yZD3{1RaJe};B>+`R6vu_>M-"
        "ne`*eQ??{T_Ax{!6%`77)SgsT4S{DC3>Q6%WM;zFzzVQyjBsPyHF}MdOi`=kF+K>Y6!yj`mPp10P3`glEsE+yl"
        "BB8exlqMOK_iBZaW0$4{{t3DScU"
    ),
}


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("release", RELEASES)
def test_frames_of_old_and_new_pandas(tmp_path, release):
    data = zlib.decompress(base64.b85decode(RELEASES[release]))
    frame = read_frame(write(tmp_path / "f.pkl", data))
    assert frame.index.tolist() == [0, 2]
    assert {name: column.tolist() for name, column in frame.columns.items()} == {
        "x": [0.0, 2.0],
        "y": [0.0, 2.0],
        "i": [0.0, 2.0],
        "d": [0, 0],
    }


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("names", ["python", "pyarrow"])
def test_frames_of_the_pandas_that_is_installed(tmp_path, protocol, names):
    pd = pytest.importorskip("pandas")
    if names == "pyarrow":
        pytest.importorskip("pyarrow", exc_type=ImportError)
    rng = np.random.default_rng(0)
    with pd.option_context("mode.string_storage", names):
        whole = pd.DataFrame(
            {
                "x": rng.normal(size=50),
                "class": rng.integers(0, 43, 50),
                "y": rng.normal(size=50),
                "f": rng.normal(size=50).astype("f4"),
                "b": rng.integers(0, 256, 50).astype("u1"),
                "u": rng.integers(0, 2**63, 50).astype("u8"),
            }
        )
        shuffled = whole.sample(frac=0.5, random_state=0)[["b", "x", "class"]]
        for expected in (whole, shuffled, whole[10:20], whole[["class"]]):
            path = tmp_path / "f.pkl.gz"
            expected.to_pickle(path, protocol=protocol)
            frame = read_frame(path)
            assert list(frame.columns) == list(expected.columns)
            np.testing.assert_array_equal(frame.index, expected.index)
            for name in expected:
                np.testing.assert_array_equal(frame.columns[name], expected[name])
                assert frame.columns[name].dtype == expected[name].dtype


class Asks:
    """Pickles as a call of anything."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


ATTACKS = {
    "posix.system": Asks(os.system, "touch harmed"),
    "builtins.eval": Asks(eval, "open('harmed', 'w')"),
    "builtins.exec": Asks(exec, "open('harmed', 'w')"),
    "builtins.getattr": Asks(getattr, "x", "__class__"),
    "builtins.__import__": Asks(__import__, "antigravity"),
    "_pickle.loads": Asks(pickle.loads, pickle.dumps(Asks(os.system, "touch harmed"))),
    "io.open": Asks(io.open, "harmed", "w"),
    "numpy.fromfile": Asks(np.fromfile, "/etc/hostname"),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: [{"deep": (a,)}]])
def test_whatever_else_is_called_is_refused_by_name(tmp_path, monkeypatch, name, protocol, wrap):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(wrap(ATTACKS[name]), protocol=protocol)
    expected = name.split(".")[1]  # modules have other names in old protocols
    with pytest.raises(InputError, match=rf"f\.pkl: asks for .*{expected}.*refused"):
        read_frame(write(tmp_path / "f.pkl", data))
    assert [p.name for p in tmp_path.iterdir()] == ["f.pkl"]


def frame_with(name, replacement):
    """The pickle of pandas 1.0.5, with one of its names exchanged for another."""
    data = zlib.decompress(base64.b85decode(RELEASES["1.0.5"]))
    old = pickle.SHORT_BINUNICODE + bytes([len(name)]) + name.encode()
    new = pickle.SHORT_BINUNICODE + bytes([len(replacement)]) + replacement.encode()
    assert old in data
    body = data.replace(old, new)[11:]  # without protocol and frame
    return pickle.PROTO + b"\4" + body


@pytest.mark.parametrize(
    ("name", "replacement", "named"),
    [
        ("_new_Index", "_ensure_index", "pandas.core.indexes.base._ensure_index"),
        ("pandas.core.frame", "subprocess", "subprocess.DataFrame"),
        ("DataFrame", "Popen", "pandas.core.frame.Popen"),
        ("dtype", "load", "numpy.load"),
        ("slice", "exit", "builtins.exit"),
        ("O8", "V8", "array of type V8"),
        ("f8", "M8", "array of type M8"),
        ("_data", "_x", "KeyError"),
    ],
)
def test_a_frame_with_one_wrong_name(tmp_path, name, replacement, named):
    assert read_frame(write(tmp_path / "f.pkl", frame_with("x", "z"))).columns["z"].size == 2
    with pytest.raises(InputError, match=named):
        read_frame(write(tmp_path / "f.pkl", frame_with(name, replacement)))


def test_arrays_of_objects_are_refused(tmp_path):
    objects = np.array([1, "a", None], dtype=object)
    with pytest.raises(InputError, match="array of objects that are not strings; refused"):
        read_frame(write(tmp_path / "f.pkl", pickle.dumps(objects)))
    hidden = np.array([Asks(os.system, "touch harmed")], dtype=object)
    with pytest.raises(InputError, match=r"posix\.system"):
        read_frame(write(tmp_path / "f.pkl", pickle.dumps(hidden)))


@pytest.mark.parametrize("thing", [None, 3, {"x": [1]}, np.arange(3), "frame"])
def test_what_is_no_frame(tmp_path, thing):
    with pytest.raises(InputError, match=r"f\.pkl: not a pandas data frame"):
        read_frame(write(tmp_path / "f.pkl", pickle.dumps(thing)))


@pytest.mark.parametrize(
    ("operations", "named"),
    [
        (b"cos\nsystem\n(S'touch harmed'\ntR.", "os.system"),
        (b"(S'touch harmed'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'touch harmed'\no.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch harmed\x85R.", "os.system"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"Pname\n.", "PERSID"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"Nr\xff\xff\xff\xff.", "memory up to 4294967295"),
        (b"Np99999999\n.", "memory up to 99999999"),
        (b"N0" * 60_000 + b"N.", "more than 100000 operations"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", "not a whole"),
        (b"cnumpy\nndarray\n}b.", "not a whole"),  # a state for a class
        (b"cbuiltins\nslice\n(NNNtR}b.", "not a whole"),
        (b"cpandas\nDataFrame\n(tR}S'x'\nNs\x86b.", "not a whole"),
        (b"cbuiltins\nbytearray\n(I1000000000000\ntR.", "buffer that is not given"),
        (b"", "not a whole"),
        (b"no pickle at all", "not a whole"),
    ],
)
def test_hand_written_pickles(tmp_path, monkeypatch, operations, named):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=named):
        read_frame(write(tmp_path / "f.pkl", operations))
    assert [p.name for p in tmp_path.iterdir()] == ["f.pkl"]


def test_files_that_unpack_to_too_much_or_not_at_all(tmp_path):
    with pytest.raises(InputError, match=r"f\.pkl\.gz: unpacks to more than 64 MB"):
        read_frame(write(tmp_path / "f.pkl.gz", gzip.compress(bytes((1 << 26) + 1), 1)))
    whole = gzip.compress(zlib.decompress(base64.b85decode(RELEASES["1.0.5"])))
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        with pytest.raises(InputError, match=r"f\.pkl\.gz: "):
            read_frame(write(tmp_path / "f.pkl.gz", whole[:cut]))
    with pytest.raises(InputError, match=r"f\.pkl\.gz: cannot be read \(Not a gzipped"):
        read_frame(write(tmp_path / "f.pkl.gz", b"plain"))
    with pytest.raises(InputError, match=r"none\.pkl: missing"):
        read_frame(tmp_path / "none.pkl")


@given(st.sampled_from(sorted(RELEASES)), st.integers(0, 800), st.integers(0, 255))
def test_damaged_frames_are_read_or_named(tmp_path_factory, release, position, value):
    data = bytearray(zlib.decompress(base64.b85decode(RELEASES[release])))
    data[position] = value
    path = write(tmp_path_factory.getbasetemp() / "damaged.pkl", bytes(data))
    try:
        frame = read_frame(path)
    except InputError as error:
        assert "damaged.pkl" in str(error)
    else:
        assert {len(column) for column in frame.columns.values()} == {len(frame.index)}

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin
from skimage import data

from panini import Restorer, __version__
from panini.cli import run
from panini.inference import BicubicEngine
from panini.photo import provenance
from panini.photo.io import FORMATS, Metadata

THEIRS = b"""<?xpacket begin='\xef\xbb\xbf' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>
<rdf:Description rdf:about='' xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:acme='http://acme.example/'
 acme:shelf='7'><dc:creator><rdf:Seq><rdf:li>Grandmother \xc3\xa9</rdf:li></rdf:Seq></dc:creator></rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end='w'?>"""
SAID = provenance.entries("ab" * 32, 0.5, 0.9, 2, 0.614)


def xmp_of(path):
    info = Image.open(path).info
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or Image.open(path).getexif().get(700) or b""
    return xmp.encode() if isinstance(xmp, str) else xmp


@pytest.fixture(scope="module")
def result():
    return Restorer(BicubicEngine()).restore(data.astronaut())


@pytest.mark.parametrize("suffix", sorted(set(FORMATS) - {".bmp"}))
def test_every_format_carries_it(result, suffix, tmp_path):
    path = result.save(tmp_path / f"out{suffix}")
    mark = provenance.read(xmp_of(path))
    assert mark["DigitalSourceType"].endswith("/digitalsourcetype/compositeWithTrainedAlgorithmicMedia")
    assert (mark["Version"], mark["Dial"], mark["Strength"], mark["Faces"]) == (__version__, "0", "1", "1")
    assert Image.open(path).getexif()[ExifTags.Base.Software].startswith(f"Panini {__version__}")
    assert provenance.read(xmp_of(result.save(tmp_path / f"plain{suffix}", mark=False))) == {}


def test_png_says_it_in_text(result, tmp_path):
    assert "Faces restored by Panini" in Image.open(result.save(tmp_path / "out.png")).text["Comment"]


def test_the_photos_own_metadata_stays(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Grandfather"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "1969:07:20 20:17:40"
    Image.fromarray(data.astronaut()).save(tmp_path / "in.jpg", exif=exif, xmp=THEIRS)
    assert run(["restore", str(tmp_path / "in.jpg"), "-o", str(tmp_path / "out.jpg"), "--network", "bicubic"]) == 0
    xmp, tags = xmp_of(tmp_path / "out.jpg"), Image.open(tmp_path / "out.jpg").getexif()
    assert provenance.read(xmp)["Faces"] == "1"
    assert "Grandmother é" in xmp.decode()
    assert 'shelf="7"' in xmp.decode()
    assert tags[ExifTags.Base.Artist] == "Grandfather"
    assert tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == "1969:07:20 20:17:40"
    arguments = ["restore", str(tmp_path / "in.jpg"), "-o", str(tmp_path / "no.jpg"), "--no-mark"]
    assert run([*arguments, "--network", "bicubic"]) == 0
    assert xmp_of(tmp_path / "no.jpg") == THEIRS


def test_a_second_mark_replaces_the_first():
    once = provenance.add_to_metadata(Metadata(xmp=THEIRS), SAID)
    twice = provenance.add_to_metadata(once, provenance.entries("cd" * 32, -1.0, 1.0, 1, None))
    assert provenance.read(once.xmp)["Imagined"] == "0.61"
    assert provenance.read(twice.xmp)["Weights"] == "cd" * 32
    assert "Imagined" not in provenance.read(twice.xmp)
    assert twice.xmp.count(b"DigitalSourceType") == 1
    assert "about 61% of the detail is imagined" in dict(once.text)["Comment"]


@pytest.mark.parametrize("xmp", [b"<x:xmpmeta", b"\xff\xfe", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"])
def test_xmp_that_cannot_be_read_is_replaced_and_exif_is_left(xmp):
    marked = provenance.add_to_metadata(Metadata(xmp=xmp, exif=b"junk"), SAID)
    assert provenance.read(marked.xmp)["Weights"] == SAID["Weights"]
    assert marked.exif == b"junk"
    assert provenance.read(xmp) == {}


def test_a_photo_without_faces_is_no_composite(tmp_path):
    path = tmp_path / "wall.png"
    text = PngImagePlugin.PngInfo()
    Image.fromarray(data.brick()).save(path, pnginfo=text)
    Restorer(BicubicEngine()).restore(path, keep=True).save(tmp_path / "out.png")
    assert xmp_of(tmp_path / "out.png") == b""
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), data.brick())

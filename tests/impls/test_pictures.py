"""From files to pixels: what pictures really are, each made here."""

import dataclasses
import io
import os
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

from impls import pictures
from impls.pictures import PictureError, decode, square
from impls.preprocessing import PREPROCESSINGS

RNG = np.random.Generator(np.random.PCG64(0))
NOISE = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
PHOTO = Image.fromarray(NOISE).resize((200, 120), Image.Resampling.BICUBIC)


def saved(path: Path, image: Image.Image, **how: object) -> Path:
    image.save(path, **how)
    return path


def png(depth: int, color_type: int, samples: np.ndarray) -> bytes:
    """A PNG that Pillow does not write: samples of shape (height, width, channels), of 8 or 16 bits, big-endian."""
    height, width = samples.shape[:2]
    header = b"".join(side.to_bytes(4, "big") for side in (width, height)) + bytes([depth, color_type, 0, 0, 0])
    return png_of((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples))))


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in (*chunks, (b"IEND", b""))
    )


def bytes_of(image: Image.Image, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


class TestDecode:
    def test_rgb_is_as_stored_and_without_notes(self, tmp_path):
        picture = decode(saved(tmp_path / "a.png", Image.fromarray(NOISE)))
        assert np.array_equal(picture.pixels, NOISE)
        assert picture.pixels.dtype == np.uint8
        assert picture.notes == ()

    def test_grey_of_16_bits_keeps_its_upper_8(self, tmp_path):
        grey = np.arange(60 * 1000, dtype=np.uint16).reshape(200, 300)
        picture = decode(saved(tmp_path / "a.png", Image.fromarray(grey)))
        assert np.array_equal(picture.pixels, np.repeat((grey >> 8)[..., None], 3, axis=2))
        assert picture.notes == ("16 bits per channel reduced to 8",)

    @pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
    def test_16_bits_of_every_kind_are_those_of_a_file_of_their_upper_8(self, tmp_path, color_type, channels):
        samples = RNG.integers(0, 2**16, (40, 60, channels)).astype(">u2")
        (tmp_path / "16.png").write_bytes(png(16, color_type, samples))
        (tmp_path / "8.png").write_bytes(png(8, color_type, (samples >> 8).astype(np.uint8)))
        deep, plain = decode(tmp_path / "16.png"), decode(tmp_path / "8.png")
        assert np.array_equal(deep.pixels, plain.pixels)
        assert deep.notes == ("16 bits per channel reduced to 8", *plain.notes)
        assert abs(deep.pixels.mean() - (127.5 if channels % 2 else 191)) < 3  # a half of half shows white

    def test_grey_of_8_bits_and_of_1_are_three_equal_channels(self, tmp_path):
        for mode in ("L", "1"):
            grey = Image.fromarray(NOISE[..., 0]).convert(mode)
            picture = decode(saved(tmp_path / f"{mode}.png", grey))
            assert np.array_equal(picture.pixels, np.repeat(np.asarray(grey.convert("L"))[..., None], 3, axis=2))

    def test_transparent_parts_are_white(self, tmp_path):
        alpha = np.full((40, 60, 1), 255, np.uint8)
        alpha[:, :20], alpha[:, 20:30] = 0, 128
        picture = decode(saved(tmp_path / "a.png", Image.fromarray(np.dstack([NOISE, alpha]))))
        assert (picture.pixels[:, :20] == 255).all()
        half = NOISE[:, 20:30] * (128 / 255) + 255 * (127 / 255)
        assert np.abs(picture.pixels[:, 20:30] - half).max() <= 1
        assert np.array_equal(picture.pixels[:, 30:], NOISE[:, 30:])
        assert picture.notes == ("transparent parts shown on white",)

    def test_transparent_grey_is_white_too(self, tmp_path):
        grey = np.dstack([NOISE[..., 0], np.where(np.arange(60) < 20, 0, 255)[None].repeat(40, 0)]).astype(np.uint8)
        picture = decode(saved(tmp_path / "a.png", Image.fromarray(grey)))
        assert picture.mode == "LA"
        assert (picture.pixels[:, :20] == 255).all()
        assert np.array_equal(picture.pixels[:, 20:], NOISE[:, 20:, :1].repeat(3, 2))
        assert picture.notes == ("transparent parts shown on white",)

    def test_a_transparent_color_of_grey_or_rgb_is_white(self, tmp_path):
        for mode, color in (("L", 7), ("RGB", (7, 8, 9))):
            image = Image.new(mode, (4, 2), 0)
            image.putpixel((1, 0), color)
            picture = decode(saved(tmp_path / f"{mode}.png", image, transparency=color))
            assert picture.pixels[0, :2].tolist() == [[0, 0, 0], [255, 255, 255]]

    def test_alpha_of_each_color_of_a_palette_is_composed(self, tmp_path):
        image = Image.new("P", (2, 1), 0)
        image.putpalette([0, 0, 0, 40, 50, 60])
        image.putpixel((1, 0), 1)
        picture = decode(saved(tmp_path / "a.png", image, transparency=bytes([128, 255])))
        assert picture.pixels.tolist() == [[[127] * 3, [40, 50, 60]]]

    def test_a_transparent_color_of_a_palette_is_white(self, tmp_path):
        image = Image.new("P", (4, 2), 1)
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((0, 0), 0)
        picture = decode(saved(tmp_path / "a.png", image, transparency=0))
        assert picture.pixels[0, 0].tolist() == [255, 255, 255]
        assert picture.pixels[0, 1].tolist() == [40, 50, 60]
        assert picture.notes == ("transparent parts shown on white",)

    def test_alpha_that_hides_nothing_is_no_note(self, tmp_path):
        assert decode(saved(tmp_path / "a.png", Image.fromarray(NOISE).convert("RGBA"))).notes == ()

    @pytest.mark.parametrize("bits", [8, 16])
    def test_exif_orientation_6_is_turned_clockwise(self, tmp_path, bits):
        image, exif = Image.fromarray(NOISE), Image.Exif()
        if bits == 16:
            image = Image.fromarray(NOISE[..., 0].astype(np.uint16) << 8)
        exif[pictures.ORIENTATION] = 6
        picture = decode(saved(tmp_path / "a.png", image, exif=exif))
        channels = NOISE if bits == 8 else NOISE[..., :1].repeat(3, axis=2)
        assert np.array_equal(picture.pixels, np.rot90(channels, -1))
        assert picture.notes[0] == "turned as its EXIF orientation says"

    @pytest.mark.parametrize("kind", ["jpg", "webp", "avif"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_orientation_is_obeyed_in_every_format(self, tmp_path, kind, orientation):
        if kind.upper() not in (*pictures.formats(), "JPG"):
            pytest.skip(f"this Pillow reads no {kind}")
        corners = np.zeros((64, 96, 3), np.uint8)
        corners[:32, :48] = 255  # white at the top left
        exif = Image.Exif()
        exif[pictures.ORIENTATION] = orientation
        picture = decode(saved(tmp_path / f"a.{kind}", Image.fromarray(corners), exif=exif))
        # Source: EXIF 2.32, Orientation: where row 0 and column 0 are
        right, bottom = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
        assert picture.pixels.shape == ((64, 96, 3) if orientation < 5 else (96, 64, 3))
        height, width = picture.pixels.shape[:2]
        halves = picture.pixels.mean(2)
        white = halves[height // 2 * bottom :][: height // 2, width // 2 * right :][:, : width // 2]
        assert white.mean() > 250
        assert halves.mean() < 66
        assert picture.notes == (("turned as its EXIF orientation says",) if orientation > 1 else ())

    def test_exif_that_cannot_be_read_leaves_the_picture(self, tmp_path):
        path = saved(tmp_path / "a.jpg", PHOTO, exif=b"Exif\0\0no tags at all", quality=95)
        assert decode(path).pixels.shape == (120, 200, 3)

    @pytest.mark.parametrize("kind", ["gif", "png", "webp"])
    def test_of_an_animation_the_first_frame_is_taken(self, tmp_path, kind):
        frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue", "white")]
        path = saved(tmp_path / f"a.{kind}", frames[0], save_all=True, append_images=frames[1:])
        picture = decode(path)
        assert np.abs(picture.pixels.astype(int) - (255, 0, 0)).max() <= 2  # WebP is lossy
        assert picture.notes == ("first of 3 frames",)

    def test_cmyk_is_converted_and_noted(self, tmp_path):
        path = saved(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (255, 0, 0, 0)), quality=100)
        assert b"Adobe" in path.read_bytes()  # whose programs store 255 - ink, as this file does
        picture = decode(path)
        assert np.abs(picture.pixels.astype(int) - (0, 255, 255)).max() <= 2
        assert picture.notes == ("converted from CMYK",)

    def test_a_progressive_jpeg_is_that_of_the_same_coefficients(self, tmp_path):
        paths = [saved(tmp_path / f"{how}.jpg", PHOTO, quality=90, progressive=how) for how in (False, True)]
        assert b"\xff\xc2" in paths[1].read_bytes()
        assert np.array_equal(*(decode(path).pixels for path in paths))

    def test_one_pixel_is_a_picture(self, tmp_path):
        picture = decode(saved(tmp_path / "a.png", Image.new("RGB", (1, 1), (1, 2, 3))))
        assert picture.pixels.tolist() == [[[1, 2, 3]]]
        assert (square(picture.pixels, PREPROCESSINGS["plain"]) == [1, 2, 3]).all()

    def test_40_bytes_that_were_overwritten_are_not_noticed_as_the_module_says(self, tmp_path):
        data = bytearray(bytes_of(PHOTO, "JPEG"))
        data[2000:2040] = bytes(40)
        (tmp_path / "a.jpg").write_bytes(data)
        found = decode(tmp_path / "a.jpg")
        assert found.notes == ()
        assert np.abs(found.pixels - decode(saved(tmp_path / "b.jpg", PHOTO)).pixels.astype(float)).mean() > 5
        assert "may decode to a wrong picture without an error" in " ".join(pictures.__doc__.split())

    def test_the_content_counts_and_not_the_name(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(bytes_of(Image.fromarray(NOISE), "PNG"))
        assert np.array_equal(decode(tmp_path / "a.jpg").pixels, NOISE)

    def test_every_format_is_read(self, tmp_path):
        for kind in pictures.formats():
            picture = decode(saved(tmp_path / f"a.{kind.lower()}", PHOTO))
            assert picture.pixels.shape == (120, 200, 3)
        assert pictures.formats()[:5] == ("JPEG", "PNG", "WEBP", "GIF", "BMP")

    @pytest.mark.parametrize(
        ("name", "data", "why"),
        [
            ("empty.jpg", b"", "expected a picture (JPEG, PNG, WEBP, GIF, BMP"),
            ("empty.jpg", b"", "found an empty file"),
            ("text.jpg", b"not a picture", "found something else"),
            ("other.png", bytes_of(PHOTO, "TIFF"), "found something else"),
            ("half.jpg", bytes_of(PHOTO, "JPEG")[:3000], "cannot be decoded: image file is truncated"),
            ("half.png", bytes_of(PHOTO, "PNG")[:3000], "cannot be decoded: "),
            ("half.gif", bytes_of(PHOTO, "GIF")[:3000], "cannot be decoded: "),
            ("half.webp", bytes_of(PHOTO, "WEBP")[:1000], ""),
        ],
    )
    def test_what_is_no_whole_picture_is_named(self, tmp_path, name, data, why):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(PictureError) as error:
            decode(tmp_path / name)
        assert str(error.value).startswith(f"{name}: ")
        assert why in str(error.value)

    @pytest.mark.skipif(sys.platform != "linux", reason="devices")
    def test_what_is_no_file_is_named_and_never_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.jpg")  # nobody writes to it
        (tmp_path / "folder.jpg").mkdir()
        (tmp_path / "zero.jpg").symlink_to("/dev/zero")
        (tmp_path / "loop.jpg").symlink_to("loop.jpg")
        for name, why in (
            ("pipe.jpg", "cannot be decoded: expected a regular file"),
            ("folder.jpg", "cannot be decoded: Is a directory"),
            ("zero.jpg", "cannot be decoded: expected a regular file"),
            ("loop.jpg", "cannot be decoded: Too many levels of symbolic links"),
        ):
            with pytest.raises(PictureError) as error:
                decode(tmp_path / name)
            assert str(error.value) == f"{name}: {why}"
            assert error.value.why == why

    @pytest.mark.process
    @pytest.mark.skipif(sys.platform != "linux", reason="users")
    def test_a_file_that_may_not_be_read_is_named(self, tmp_path):
        """By somebody without rights, since root may read everything."""
        path = saved(tmp_path / "a.png", PHOTO)
        path.chmod(0)
        code = f"""
import os, pathlib
from impls import pictures
if os.getuid() == 0:
    os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
try:
    pictures.decode(pathlib.Path({str(path)!r}))
except pictures.PictureError as error:
    print(error)
"""
        ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert ran.stdout == "a.png: cannot be decoded: Permission denied\n", ran.stderr

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(PictureError, match=r"^a\.jpg: cannot be decoded: No such file or directory$"):
            decode(tmp_path / "a.jpg")

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest resets the module's filter
    @pytest.mark.parametrize("side", [13000, 20000])  # Pillow's own limit is between
    def test_a_huge_picture_is_refused_before_it_is_decoded(self, tmp_path, side):
        header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
        (tmp_path / "a.png").write_bytes(png_of((b"IHDR", header), (b"IDAT", zlib.compress(bytes(9)))))
        found = {13000: "expected at most 50 megapixels, found 13,000 x 13,000 pixels", 20000: "400000000 pixels"}
        with pytest.raises(PictureError, match=f"a.png: .*{found[side]}"):
            decode(tmp_path / "a.png")


def at(pixels, side):
    return square(pixels, dataclasses.replace(PREPROCESSINGS["plain"], size=side, side=side))


class TestSquare:
    def test_the_shorter_side_is_resized_and_the_middle_cropped(self):
        columns = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (100, 1, 3))
        square = at(columns, 50)
        assert square.shape == (50, 50, 3)
        assert np.abs(square[25, :, 0] - (50.5 + 2 * np.arange(50))).max() <= 1
        assert np.array_equal(at(columns.swapaxes(0, 1), 50), square.swapaxes(0, 1))

    def test_a_picture_of_that_size_is_unchanged(self):
        assert np.array_equal(at(NOISE[:, 10:50], 40), NOISE[:, 10:50])

    def test_reducing_averages_where_sampling_would_not(self):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        assert np.abs(at(stripes, 16)[:, 1:-1].astype(int) - 127).max() <= 4

    @pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1)])
    def test_a_long_line_needs_no_memory(self, shape):
        tracemalloc.start()
        assert (at(np.full((*shape, 3), 7, np.uint8), 256) == 7).all()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2e6

"""From files to pixels: what pictures really are, each made here."""

import dataclasses
import io
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
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
        picture = decode(saved(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (255, 0, 0, 0)), quality=100))
        assert np.abs(picture.pixels.astype(int) - (0, 255, 255)).max() <= 2
        assert picture.notes == ("converted from CMYK",)

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

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(PictureError, match=r"^a\.jpg: cannot be decoded: No such file or directory$"):
            decode(tmp_path / "a.jpg")

    @pytest.mark.parametrize("side", [13000, 20000])  # Pillow's own limit is between
    def test_a_huge_picture_is_refused_before_it_is_decoded(self, tmp_path, side):
        header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
        (tmp_path / "a.png").write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
                for kind, data in chunks
            )
        )
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

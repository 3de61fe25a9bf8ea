"""A folder of images: what is read of it, which folders are refused, and its crops against a slow second way."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder

from degradation.data import decoding
from degradation.data.decoding import DRAW, clean_draws, colours, decoded
from degradation.data.manifest import listed, read
from degradation.errors import UserError
from degradation.spec import Folder
from tests.made_folder import CLASSES, SMALL, images, make


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("images"))


# What it holds


def test_it_holds_what_torchvisions_image_folder_finds(folder):
    found = read(folder)
    for files, part in ((found.train, "train"), (found.test, "val")):
        theirs = ImageFolder(folder / part)
        ours = {(str(files.path(number)), int(files.labels[number])) for number in range(len(files))}
        assert ours == set(theirs.samples)
        assert found.classes == tuple(theirs.classes) == CLASSES


def test_images_in_folders_within_a_class_count_and_other_files_do_not(tmp_path):
    make(tmp_path)
    before = listed(SMALL, tmp_path)
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    assert listed(SMALL, tmp_path) == before
    (tmp_path / "train" / "ant" / "more").mkdir()
    shutil.copy(tmp_path / "train" / "ant" / "2.JPG", tmp_path / "train" / "ant" / "more" / "2.JPG")
    assert listed(SMALL, tmp_path).examples == before.examples + 1


def test_images_are_numbered_in_an_order_that_mixes_the_classes(folder):
    labels = read(folder).train.labels
    assert sorted(labels) == [0] * 12 + [1] * 12 + [2] * 12
    assert set(labels[:8]) == {0, 1, 2}


def test_a_folder_that_moves_is_the_same_and_one_that_changes_is_not(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    spec = listed(SMALL, folder)
    assert listed(SMALL, moved) == spec
    assert (spec.classes, spec.examples, spec.test_examples) == (3, 36, 15)
    (moved / "val").rename(moved / "test")
    assert listed(SMALL, moved) == spec
    (moved / "train" / "ant" / "2.JPG").rename(moved / "train" / "ant" / "2b.JPG")
    renamed = listed(SMALL, moved)
    with (moved / "train" / "bee" / "2.JPG").open("ab") as file:
        file.write(b"\0")
    grown = listed(SMALL, moved)
    for part in ("train", "test"):
        (moved / part / "cat").rename(moved / part / "dog")
    assert len({each.listing for each in (spec, renamed, grown, listed(SMALL, moved))}) == 4


def test_images_held_out_for_validation_are_taken_from_those_to_train_on(folder):
    spec = SMALL.model_copy(update={"validation": 10})
    made = images(folder, spec)
    parts = [{str(files.path(n)) for n in range(len(files))} for files in (made.train, made.val)]
    assert [len(part) for part in parts] == [made.spec.train_examples, 10] == [26, 10]
    assert not parts[0] & parts[1]
    with pytest.raises(UserError, match="has 36 training images, of which 36 cannot be held out"):
        listed(SMALL.model_copy(update={"validation": 36}), folder)


# Odd folders


def without_train(root):
    shutil.rmtree(root / "train")


def without_val(root):
    (root / "val").rename(root / "holdout")


def flat(root):
    shutil.rmtree(root / "train")
    shutil.copytree(root / "val" / "ant", root / "train")


def class_missing(root):
    shutil.rmtree(root / "val" / "bee")


def class_unknown(root):
    (root / "val" / "dog").mkdir()


def class_empty(root):
    for file in (root / "train" / "cat").iterdir():
        file.unlink()


def empty(root):
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "val")


def broken_link(root):
    (root / "train" / "ant" / "9.png").unlink()
    (root / "train" / "ant" / "9.png").symlink_to(root / "nowhere")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_train, ("expected PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg", "found val")),
        (without_val, ("(or valid, or test in place of val)", "found holdout, train")),
        (flat, ("train: expected two class folders at least, found nothing and 5 files outside of any",)),
        (class_missing, ("val: expected the 3 classes of train; it lacks bee",)),
        (class_unknown, ("val: expected the 3 classes of train; it also has dog",)),
        (class_empty, ("cat: expected images (.jpg,", "found none")),
        (empty, ("found nothing",)),
        (broken_link, ("9.png is a link to", "nowhere, which does not exist")),
        (shutil.rmtree, ("does not exist: expected PATH/train/CLASS",)),
    ],
)
def test_an_odd_folder_is_one_line_that_says_what_was_expected_and_what_came(tmp_path, spoil, words):
    root = make(tmp_path / "images")
    spoil(root)
    with pytest.raises(UserError) as caught:
        listed(SMALL, root)
    said = str(caught.value)
    assert all(word in said for word in (str(root), *words)), said
    assert "\n" not in said


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "images.tar").write_text("")
    with pytest.raises(UserError, match=r"images.tar is not a folder: expected PATH/train"):
        read(tmp_path / "images.tar")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop": 64, "shorter": (40, 80)}, r"from crop \(64\) to 4096 pixels, not 40 and 80"),
        ({"shorter": (300, 280)}, "not 300 and 280"),
        ({"clean_shorter": 200}, r"clean_shorter is from crop \(224\) to 4096 pixels, not 200"),
    ],
)
def test_crops_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Folder(**fields)


# Crops


def slow_cut(image, shorter, crop, place):
    """Resize the whole, then crop: what the papers say, and torchvision's way to round the longer side."""
    width, height = image.size
    size = (shorter, int(shorter * height / width)) if width <= height else (int(shorter * width / height), shorter)
    whole = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    top, left = int(place[0] * (size[1] - crop + 1)), int(place[1] * (size[0] - crop + 1))
    return whole.crop((left, top, left + crop, top + crop)), (top, left)


def test_a_crop_is_that_of_the_whole_image_resized(folder):
    files, rng = read(folder).train, np.random.default_rng(1)
    for number in range(len(files)):
        draw = np.zeros((), dtype=DRAW)
        draw["index"], draw["shorter"], draw["flip"] = number, rng.integers(18, 60), rng.integers(2)
        draw["down"], draw["right"] = rng.random(2)
        pixels, used = decoded(files, draw, 16)
        with Image.open(files.path(number)) as image:
            expected, corner = slow_cut(image, int(draw["shorter"]), 16, (float(draw["down"]), float(draw["right"])))
        if draw["flip"]:
            expected = ImageOps.mirror(expected)
        apart = np.abs(pixels.astype(int) - np.asarray(expected).astype(int))
        assert apart.max() <= 2  # Pillow rounds to a level behind either pass of a resize
        assert apart.mean() < 0.5
        assert used == (number, int(draw["shorter"]), *corner, int(draw["flip"]))


def test_every_corner_of_an_image_is_reached_and_nothing_beyond():
    image = Image.new("RGB", (40, 20))
    corners = {decoding.cut(image, 20, 16, (down, right))[1:] for down in (0, 0.999) for right in (0, 0.999)}
    assert corners == {(0, 0), (0, 24), (4, 0), (4, 24)}


def test_a_clean_image_is_the_centre_of_the_resized_one():
    image = Image.new("RGB", (36, 18))
    image.paste((255, 255, 255), (10, 1, 26, 17))  # the middle 16 by 16
    draw = clean_draws(0, 1, SMALL)[0]
    pixels, top, left = decoding.cut(image, int(draw["shorter"]), 16, (float(draw["down"]), float(draw["right"])))
    assert (top, left) == (1, 10)
    assert pixels.min() == 255


@pytest.mark.parametrize("content", [b"GIF", b"no image at all", None])
def test_an_image_that_cannot_be_read_is_named(tmp_path, content):
    root = make(tmp_path)
    file = root / "train" / "ant" / "4.JPG"
    file.write_bytes(file.read_bytes()[:300] if content is None else content)
    with pytest.raises(UserError, match=r"train/ant/4.JPG cannot be read as an image") as caught:
        images(root)
    assert "\n" not in str(caught.value)


def test_greys_of_16_bits_keep_their_brightness_and_32_bits_are_refused():
    ramp = np.linspace(0, 65535, 24 * 24).reshape(24, 24)
    wide, usual = (Image.fromarray(each) for each in (ramp.astype(np.uint16), (ramp / 256).astype(np.uint8)))
    assert wide.mode == "I;16"
    cuts = [decoding.cut(image, 24, 24, (0.0, 0.0))[0] for image in (wide, usual)]
    assert np.array_equal(*cuts)
    assert 120 < cuts[0].mean() < 135
    for kind in (np.int32, np.float32):
        with pytest.raises(ValueError, match="it has 32-bit pixels, whose range is not known"):
            decoding.cut(Image.fromarray(ramp.astype(kind)), 24, 24, (0.0, 0.0))


def test_an_empty_file_is_named_when_the_folder_is_listed(tmp_path):
    root = make(tmp_path / "images")
    empty = next((root / "val").rglob("*.*"))
    empty.write_bytes(b"")
    with pytest.raises(UserError, match=rf"^{empty} is empty \(0 bytes\)"):
        listed(SMALL, root)


# Colours


def test_mean_and_components_are_those_of_the_pixels_of_the_centre_crops(folder):
    files = read(folder).train
    crops = [decoded(files, draw, 16)[0] for draw in clean_draws(0, len(files), SMALL)]
    pixels = np.concatenate([crop.reshape(-1, 3) for crop in crops]) / 255
    found = colours(files, listed(SMALL, folder))
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-12)
    variances = np.linalg.norm(found.components, axis=1)
    directions = np.array(found.components) / variances[:, None]
    np.testing.assert_allclose((directions.T * variances) @ directions, np.cov(pixels.T, bias=True), atol=1e-12)


def test_colours_are_computed_once_and_kept(folder, monkeypatch):
    files, spec = read(folder).train, listed(SMALL, folder)
    first = colours(files, spec)
    monkeypatch.setattr(decoding, "_colours", lambda files, spec: pytest.fail("computed again"))
    assert colours(files, spec) == first
    assert Path(files.root) == folder


def test_hidden_files_and_what_programs_leave_behind_are_no_images_and_are_named(tmp_path):
    make(tmp_path)
    before, said = listed(SMALL, tmp_path), []
    image = tmp_path / "train" / "ant" / "2.JPG"
    for place in ("train/.ipynb_checkpoints", "train/ant/.ipynb_checkpoints", "val/@eaDir", "val/ant/@eaDir"):
        (tmp_path / place).mkdir()
        shutil.copy(image, tmp_path / place / "2.JPG")
    shutil.copy(image, tmp_path / "train" / "ant" / "._2.JPG")
    assert listed(SMALL, tmp_path, said.append) == before
    assert said == [
        f"{tmp_path}: hidden files and folders are skipped: train/.ipynb_checkpoints, train/ant/._2.JPG, "
        "train/ant/.ipynb_checkpoints and 2 more"
    ]

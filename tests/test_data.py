"""Images are found where they should be and are the published ones; synthetic ones are as their spec says."""

import hashlib
import http.server
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
import urllib.error
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from degradation.data import cifar10, digits, load_images, synthetic
from degradation.data.images import Images, Split, hold_out
from degradation.errors import DamagedError, UserError
from degradation.spec import DATASETS, Cifar10, Digits, Folder, Synthetic

REAL = Path(os.environ.get("DEGRADATION_DATA") or "absent") / "cifar-10-batches-py"
needs_cifar10 = pytest.mark.skipif(not REAL.is_dir(), reason="no CIFAR-10 in $DEGRADATION_DATA")
EXAMPLES = 4  # images in each batch file of the made copies


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


class Folders:
    """A made copy of CIFAR-10 (4 images a file), the empty cache, and a folder for the user's own."""

    def __init__(self, root, monkeypatch):
        self.original, self.given, self.named, self.cache = (root / n for n in ("made", "given", "named", "cache"))
        for folder in (self.original, self.given, self.named):
            folder.mkdir()
        monkeypatch.delenv("DEGRADATION_DATA", raising=False)
        monkeypatch.setattr(cifar10.platformdirs, "user_cache_dir", lambda name: str(self.cache))
        inner = self.original / cifar10.FOLDER
        inner.mkdir()
        batches = [name for name, _ in cifar10.CIFAR10.train_list + cifar10.CIFAR10.test_list]
        for number, name in enumerate(batches):
            data = np.full((EXAMPLES, 3072), number, dtype=np.uint8)
            data[:, 1024:2048] = 100  # the green plane of (N, 3, 32, 32)
            (inner / name).write_bytes(pickle.dumps({"data": data, "labels": [number] * EXAMPLES}))
        (inner / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"kind {i}" for i in range(10)]}))
        listed = [[name, md5(inner / name)] for name in batches]
        meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(inner / "batches.meta")}
        archive = self.original / cifar10.ARCHIVE
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(inner, arcname=cifar10.FOLDER)
        published = {"train_list": listed[:5], "test_list": listed[5:], "meta": meta, "tgz_md5": md5(archive)}
        for name, value in published.items():
            monkeypatch.setattr(cifar10.CIFAR10, name, value)

    def put(self, place):
        shutil.copytree(self.original / cifar10.FOLDER, place / cifar10.FOLDER)
        return place / cifar10.FOLDER

    def put_archive(self, place):
        return Path(shutil.copy(self.original / cifar10.ARCHIVE, place))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    made = Folders(tmp_path, monkeypatch)

    def refuse(*arguments, **named):
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(cifar10, "download_and_extract_archive", refuse)
    return made


def refusal(data_dir=None):
    """The one line with which loading is refused."""
    with pytest.raises(UserError) as caught:
        cifar10.load(Cifar10(), data_dir)
    message = str(caught.value)
    assert "\n" not in message
    return message


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# where CIFAR-10 is looked for


def test_the_folder_given_comes_before_the_variable_and_the_variable_before_the_cache(folders, monkeypatch):
    monkeypatch.setenv("DEGRADATION_DATA", str(folders.named))
    folders.cache.mkdir()
    for place in (folders.cache, folders.named, folders.given):
        folders.put(place)
        assert cifar10.load(Cifar10(), folders.given).source == str(place / cifar10.FOLDER)


def test_an_archive_in_the_folder_given_comes_before_a_folder_in_the_cache(folders):
    folders.cache.mkdir()
    folders.put(folders.cache)
    folders.put_archive(folders.given)
    assert cifar10.load(Cifar10(), folders.given).source == str(folders.given / cifar10.FOLDER)


def test_the_inner_folder_may_be_named_itself(folders):
    assert cifar10.locate(folders.put(folders.given)) == folders.given


def test_a_folder_given_that_does_not_exist_is_named(folders):
    folders.cache.mkdir()
    folders.put(folders.cache)
    assert f"{folders.given / 'none'} does not exist" in refusal(folders.given / "none")


def test_a_variable_that_names_a_missing_folder_is_refused_and_an_empty_one_is_not(folders, monkeypatch):
    folders.cache.mkdir()
    folders.put(folders.cache)
    monkeypatch.setenv("DEGRADATION_DATA", "")
    assert cifar10.locate(None) == folders.cache
    monkeypatch.setenv("DEGRADATION_DATA", str(folders.named / "none"))
    assert "$DEGRADATION_DATA" in refusal()


def test_a_file_given_as_the_folder_is_refused(folders):
    assert "is not a folder" in refusal(folders.put_archive(folders.given))


# damaged copies


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_flipped_byte_is_named_with_both_md5s_and_nothing_is_unpickled(folders, monkeypatch, name):
    folders.cache.mkdir()
    folders.put(folders.cache)  # a good copy further on is no way out
    damaged = folders.put(folders.given) / name
    expected = md5(damaged)
    flip_a_byte(damaged)
    monkeypatch.setattr(pickle, "load", lambda *a, **k: pytest.fail("a file was unpickled before its md5 matched"))
    message = refusal(folders.given)
    assert all(part in message for part in (str(damaged), expected, md5(damaged), "delete"))


def test_a_missing_file_is_named_and_no_other_place_is_tried(folders):
    folders.cache.mkdir()
    folders.put(folders.cache)
    missing = folders.put(folders.given) / "data_batch_4"
    missing.unlink()
    assert f"{missing} is missing" in refusal(folders.given)


def test_a_damaged_archive_is_named_with_both_md5s_and_not_unpacked(folders):
    archive = folders.put_archive(folders.given)
    expected = md5(archive)
    flip_a_byte(archive)
    message = refusal(folders.given)
    assert all(part in message for part in (str(archive), expected, md5(archive)))
    assert not (folders.given / cifar10.FOLDER).exists()


def test_a_file_that_cannot_be_read_is_refused_in_one_line(folders):
    unreadable = folders.put(folders.given) / "data_batch_2"
    unreadable.unlink()
    unreadable.mkdir()  # also for root, whom permissions do not stop
    assert str(unreadable) in refusal(folders.given)


# archives and downloads


def test_an_archive_is_unpacked_beside_itself_and_leaves_nothing_else(folders):
    folders.put_archive(folders.given)
    images = cifar10.load(Cifar10(), folders.given)
    assert (len(images.train.labels), len(images.test.labels)) == (20, 4)
    visible = {path.name for path in folders.given.iterdir() if path.name != cifar10.LOCK}
    assert visible == {cifar10.ARCHIVE, cifar10.FOLDER}


def test_an_archive_in_a_read_only_folder_is_unpacked_in_the_cache(folders, monkeypatch):
    folders.put_archive(folders.given)
    monkeypatch.setattr(cifar10.os, "access", lambda path, mode: Path(path) != folders.given)
    assert cifar10.load(Cifar10(), folders.given).source == str(folders.cache / cifar10.FOLDER)
    assert [path.name for path in folders.given.iterdir()] == [cifar10.ARCHIVE]


def test_without_network_the_message_says_where_to_get_it_where_to_put_it_and_what_needs_none(folders):
    for data_dir, target in ((None, folders.cache), (folders.given, folders.given)):
        message = refusal(data_dir)
        parts = (
            "https://www.cs.toronto.edu/~kriz/cifar.html",
            str(target),
            "digits",
            "no network in this test",
        )
        assert all(part in message for part in (*parts, "degradation run quickstart"))
        assert not (target / cifar10.PARTIAL).exists()


def test_what_a_killed_download_left_is_cleared(folders):
    folders.put_archive(folders.given)
    (folders.given / cifar10.PARTIAL / cifar10.FOLDER).mkdir(parents=True)
    (folders.given / cifar10.PARTIAL / cifar10.FOLDER / "data_batch_1").write_bytes(b"half")
    assert cifar10.locate(folders.given) == folders.given


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The made archive behind HTTP on this machine, and a list with an entry for each download."""
    made, fetched = Folders(tmp_path, monkeypatch), []
    torchvisions = cifar10.download_and_extract_archive

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(made.original))

        def log_message(self, *arguments):
            pass

    def counted(url, *arguments, **named):
        fetched.append(url)
        torchvisions(url, *arguments, **named)

    monkeypatch.setattr(cifar10, "download_and_extract_archive", counted)
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(cifar10.CIFAR10, "url", f"http://127.0.0.1:{serving.server_port}/{cifar10.ARCHIVE}")
    yield made, fetched
    serving.shutdown()
    serving.server_close()


def test_processes_that_start_at_once_download_once(server):
    made, fetched = server
    found = []
    threads = [threading.Thread(target=lambda: found.append(cifar10.locate(None))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [made.cache] * 4
    assert len(fetched) == 1


def test_a_download_that_is_not_the_archive_is_refused_and_not_kept(server, monkeypatch):
    made, _ = server
    monkeypatch.setattr(cifar10.CIFAR10, "tgz_md5", "0" * 32)
    assert "could not be downloaded" in refusal()
    assert [path.name for path in made.cache.iterdir() if path.name != cifar10.LOCK] == []


# what is read


def test_planes_become_channels_and_labels_stay_with_their_images(folders):
    folders.put(folders.given)
    images = load_images(Cifar10(), folders.given)
    assert images.train.images.shape == (20, 32, 32, 3)
    assert (images.train.images[:, :, :, 1] == 100).all()
    assert (images.train.images[:, 5, 7, 0] == images.train.labels).all()
    assert (images.test.images[..., 2] == 5).all()
    assert images.classes[3] == "kind 3"


@pytest.mark.cifar10
@needs_cifar10
def test_the_real_images_have_their_published_sizes_labels_and_mean():
    images = load_images(Cifar10(), REAL.parent)
    assert images.train.images.shape == (50_000, 32, 32, 3)
    assert images.test.images.shape == (10_000, 32, 32, 3)
    assert images.train.images.flags.c_contiguous
    assert images.train.labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert images.test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert images.classes[6] == "frog"
    assert np.bincount(images.train.labels).tolist() == [5000] * 10
    assert images.mean_image.mean(axis=(0, 1)) == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-4)
    assert images.val is None
    assert images.fingerprint == "85d212b49fbcdd74"


@pytest.mark.cifar10
@needs_cifar10
def test_the_real_45k_5k_split_is_the_pinned_one():
    images = load_images(Cifar10(validation=5000), REAL.parent)
    assert (len(images.train.labels), len(images.val.labels)) == (45_000, 5_000)
    assert images.fingerprint == "b327d74c980f6b9b"


@pytest.mark.cifar10
@needs_cifar10
def test_a_flipped_byte_of_a_real_file_is_found(tmp_path):
    copy = Path(shutil.copytree(REAL, tmp_path / REAL.name, copy_function=link_unless_first))
    flip_a_byte(copy / "data_batch_1")
    message = refusal(tmp_path)
    assert str(copy / "data_batch_1") in message
    assert "c99cafc152244af753f735de768cd75f" in message


def link_unless_first(source, target):
    if Path(source).name != "data_batch_1":
        return Path(target).symlink_to(Path(source).resolve())
    return Path(target).write_bytes(Path(source).read_bytes())


# splits


def numbered(examples):
    """Images whose first pixel spells their index, labelled by it."""
    index = np.arange(examples)
    images = np.zeros((examples, 2, 2, 3), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = index // 256, index % 256
    return Split(images=images, labels=index)


def test_held_out_images_are_disjoint_from_the_rest_keep_their_order_and_their_labels():
    train, val = hold_out(numbered(1000), 100)
    assert (len(train.labels), len(val.labels)) == (900, 100)
    assert sorted([*train.labels, *val.labels]) == list(range(1000))
    for split in (train, val):
        assert (np.diff(split.labels) > 0).all()
        high, low = split.images[:, 0, 0, :2].astype(int).T
        assert (high * 256 + low == split.labels).all()


def test_the_split_is_drawn_from_the_whole_set_and_pinned():
    _, val = hold_out(numbered(50_000), 5_000)
    assert np.histogram(val.labels, bins=5, range=(0, 50_000))[0] == pytest.approx(1000, abs=120)
    assert val.labels[:5].tolist() == [8, 9, 11, 23, 24]
    assert hashlib.sha256(val.labels.tobytes()).hexdigest()[:16] == "0c8c81939601ae53"


def test_nothing_held_out_is_no_validation_split():
    split = numbered(10)
    assert hold_out(split, 0) == (split, None)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 3, 4, 4), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int32)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, np.int64)),
    ],
)
def test_images_that_are_not_uint8_nhwc_with_a_label_each_are_refused(images, labels):
    with pytest.raises(ValueError, match="must be"):
        Split(images=images, labels=labels)


# mean image and fingerprint


def test_the_mean_image_is_that_of_a_slow_loop_over_the_training_split_used():
    images = synthetic.load(Synthetic(examples=60, test_examples=10, size=8, validation=20))
    slow = np.zeros((8, 8, 3))
    for image in images.train.images:
        slow += image.astype(np.float64) / 255
    assert images.mean_image.dtype == np.float32
    assert images.mean_image == pytest.approx(slow / 40, abs=1e-7)


def copy_of(images, **changed):
    fields = {name: getattr(images, name) for name in ("train", "val", "test", "classes", "source")}
    return Images(**(fields | changed))


def test_one_changed_pixel_or_label_in_any_split_changes_the_fingerprint():
    images = synthetic.load(Synthetic(examples=30, test_examples=10, size=8, validation=10))
    seen = {images.fingerprint}
    for name in ("train", "val", "test"):
        split = getattr(images, name)
        for field in ("images", "labels"):
            arrays = {"images": split.images.copy(), "labels": split.labels.copy()}
            arrays[field].flat[-1] += 1
            seen.add(copy_of(images, **{name: Split(**arrays)}).fingerprint)
    assert len(seen) == 7
    assert copy_of(images, source="elsewhere").fingerprint == images.fingerprint


# synthetic


def test_the_default_synthetic_images_are_the_pinned_ones():
    assert synthetic.load(Synthetic()).fingerprint == "9d7153c9e613e573"


def test_equal_specs_give_equal_images_and_other_seeds_others():
    small = {"examples": 50, "test_examples": 20, "size": 8}
    first, again, other = (synthetic.load(Synthetic(**small, seed=seed)) for seed in (7, 7, 8))
    assert np.array_equal(first.train.images, again.train.images)
    assert np.array_equal(first.test.images, again.test.images)
    assert not (first.train.images == other.train.images).mean() > 0.1


def test_the_images_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch):
    spec = Synthetic(examples=50, test_examples=20, size=8)
    whole = synthetic.load(spec)
    monkeypatch.setattr(synthetic, "CHUNK", 7)
    assert synthetic.load(spec).fingerprint == whole.fingerprint


def test_train_and_test_images_are_independent():
    images = synthetic.load(Synthetic(examples=500, test_examples=500, size=8))
    train, test = (split.images.astype(float).ravel() - 128 for split in (images.train, images.test))
    assert abs(np.corrcoef(train, test)[0, 1]) < 0.02


@pytest.mark.parametrize("noise", [0.25, 0.5, 1.0])
def test_the_noise_has_the_stated_standard_deviation_in_amplitudes_of_the_grating(noise):
    shape = {"examples": 200, "test_examples": 10, "size": 16}
    with_noise, without = (synthetic.load(Synthetic(**shape, noise=n)).train.images.astype(float) for n in (noise, 0))
    inside = (np.abs(without - 128) < 30) & (with_noise > 0) & (with_noise < 255)
    # Mean square amplitude 1 over channels, so half of it is the variance of a sine.
    amplitude = np.sqrt(2 * ((without - 128) ** 2).mean())
    assert (with_noise - without)[inside].std() / amplitude == pytest.approx(noise, rel=0.03)


def test_few_pixels_are_clipped_at_the_default_noise():
    pixels = synthetic.load(Synthetic()).train.images
    assert ((pixels == 0) | (pixels == 255)).mean() < 0.01


def test_every_prefix_of_a_split_is_balanced():
    images = synthetic.load(Synthetic(examples=107, test_examples=23, size=8))
    for labels in (images.train.labels, images.train.labels[:31], images.test.labels):
        assert np.ptp(np.bincount(labels, minlength=10)) <= 1


def angle_of(image):
    """Degrees from the horizontal to the wave vector, clockwise, 0..180: where the power spectrum peaks."""
    strongest = np.argmax(image.astype(float).var(axis=(0, 1)))
    power = np.abs(np.fft.fft2(image[..., strongest] - 128.0, s=(256, 256))) ** 2
    row, column = np.unravel_index(np.argmax(power), power.shape)
    down, right = ((index + 128) % 256 - 128 for index in (row, column))
    return np.degrees(np.arctan2(down, right)) % 180


def apart(angle, other):
    """Degrees between two directions, which repeat after a half turn."""
    return abs((angle - other + 90) % 180 - 90)


def test_the_class_is_the_angle_of_the_wave_and_a_flip_mirrors_it():
    images = synthetic.load(Synthetic(examples=100, test_examples=10, size=32, noise=0))
    assert images.classes == tuple(f"grating {angle}°" for angle in range(0, 180, 18))
    for image, label in zip(images.train.images, images.train.labels, strict=True):
        assert apart(angle_of(image), 18 * label) < 4
        assert apart(angle_of(image[:, ::-1]), 180 - 18 * label) < 4


def test_phase_frequency_and_colour_vary_within_a_class():
    drawn = synthetic.draw(np.zeros(1000, dtype=np.int64), np.random.default_rng(0))
    frequency = np.linalg.norm(drawn.waves, axis=1) / (2 * np.pi)
    assert (frequency.min(), frequency.max()) == pytest.approx((1 / 8, 1 / 4), abs=0.002)
    assert np.histogram(drawn.phases, bins=4, range=(0, 2 * np.pi))[0] == pytest.approx(250, abs=60)
    assert (drawn.colours**2).sum(axis=1) == pytest.approx(3)
    assert drawn.colours.mean(axis=0) == pytest.approx(0, abs=0.12)


def test_the_sizes_are_those_of_the_spec():
    spec = Synthetic(examples=40, test_examples=15, size=8, validation=12)
    images = load_images(spec, None)
    assert images.train.images.shape == (spec.train_examples, 8, 8, 3)
    assert images.val.images.shape == (12, 8, 8, 3)
    assert images.test.images.shape == (15, 8, 8, 3)


# dispatch


def test_every_data_set_of_the_spec_has_a_loader():
    assert set(DATASETS.values()) == {Cifar10, Digits, Folder, Synthetic}
    assert all(callable(import_module(f"degradation.data.{name}").load) for name in DATASETS)


# smaller CIFAR-10, and digits


def test_smaller_images_are_means_of_squares_of_pixels():
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    whole = Split(images=images, labels=np.arange(5, dtype=np.int64))
    for size, factor in ((8, 4), (16, 2)):
        small = cifar10.averaged(whole, size)
        assert small.images.shape == (5, size, size, 3)
        for image, row, column, channel in ((0, 0, 0, 0), (4, 3, 5, 2), (2, size - 1, 1, 1)):
            square = images[image, factor * row : factor * (row + 1), factor * column : factor * (column + 1), channel]
            assert small.images[image, row, column, channel] == round(int(square.sum()) / factor**2)
        assert np.array_equal(small.labels, whole.labels)
    assert cifar10.averaged(whole, 32) is whole


@pytest.mark.cifar10
@needs_cifar10
def test_smaller_cifar10_keeps_labels_and_split():
    whole, small = (load_images(Cifar10(size=size, validation=5000), REAL.parent) for size in (32, 8))
    assert small.train.images.shape == (45_000, 8, 8, 3)
    for part in ("train", "val", "test"):
        assert np.array_equal(getattr(small, part).labels, getattr(whole, part).labels)
    assert small.fingerprint != whole.fingerprint
    assert abs(float(small.mean_image.mean()) - float(whole.mean_image.mean())) < 1e-3


def test_the_digits_are_the_published_ones_and_split_for_ever():
    images = load_images(Digits(), None)
    assert images.train.images.shape == (1500, 8, 8, 3)
    assert images.test.images.shape == (297, 8, 8, 3)
    labels = np.concatenate([images.train.labels, images.test.labels])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as UCI counts them
    assert images.fingerprint == "5c98025205505a29"
    assert set(np.unique(images.train.images)) <= {round(255 * level / 16) for level in range(17)}
    assert (images.train.images[..., 0] == images.train.images[..., 2]).all()
    # The first image of the file is a zero; its second row is 0 0 13 15 10 15 5 0.
    zero = [round(255 * level / 16) for level in (0, 0, 13, 15, 10, 15, 5, 0)]
    whole = np.concatenate([images.train.images, images.test.images])
    assert (whole[:, 1, :, 0] == zero).all(axis=1).any()


def test_digits_hold_out_validation_images_of_the_training_part():
    whole, split = load_images(Digits(), None), load_images(Digits(validation=300), None)
    assert split.val is not None
    assert (len(split.train.labels), len(split.val.labels)) == (1200, 300)
    assert np.array_equal(split.test.images, whole.test.images)


def test_damaged_digits_are_refused(monkeypatch):
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    with pytest.raises(DamagedError, match="damaged"):
        load_images(Digits(), None)


def test_synthetic_images_are_made_without_torch():
    code = (
        "import sys; from degradation.data import load_images; from degradation.spec import Synthetic; "
        "load_images(Synthetic(examples=10, test_examples=10), None); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

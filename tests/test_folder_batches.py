"""The batches of a folder of images: against a slow second way, for any number of workers, from any step on."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from degradation.data.batches import generator
from degradation.data.folder import load
from degradation.data.manifest import listed
from degradation.data.streaming import PIECE, Loader, StreamedBatches, StreamedCleanBatches, epoch_draws
from degradation.errors import UserError
from degradation.spec import Recipe
from tests.made_folder import SMALL, images, make
from tests.test_folder import own_cache, slow_cut  # noqa: F401

RECIPE = Recipe(batch=10, steps=8, colour=0.1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return images(make(tmp_path_factory.mktemp("images")))


def batches(folder, workers=0, *, seed=0, rows=None, recipe=RECIPE):
    return StreamedBatches(folder, recipe, seed, CPU, workers, rows)


def taken(source, steps):
    """Images, labels and checksum of each step; copies, since the buffers are filled anew."""
    found = []
    for step in steps:
        source.ready(step)
        found.append([part.clone() for part in source.fill(torch.tensor(step))])
    source.close()
    return found


def assert_near(found, expected):
    """But for rounding: Pillow rounds to a level behind either pass of a resize."""
    apart = 255 * np.abs(found - expected)
    assert apart.max() < 2.01
    assert apart.mean() < 0.5


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_batch_is_what_the_counters_say_resized_cropped_flipped_and_coloured(folder):
    """Batch 3 of 10 covers positions 30 to 39, of which 36 to 39 are the first four of the second epoch."""
    (found, labels, _), expected = taken(batches(folder, seed=5), [3])[0], []
    for position in range(30, 40):
        epoch, place = divmod(position, 36)
        number = generator(5, 0, epoch).permutation(36)[place]
        flip = generator(5, 2, epoch).integers(0, 2, 36)[place]
        shorter = generator(5, 3, epoch).integers(18, 29, 36)[place]
        corner = generator(5, 4, epoch).random((2, 36))[:, place]
        multiples = 0.1 * generator(5, 5, epoch).standard_normal((36, 3))[place]
        with Image.open(folder.train.path(number)) as image:
            crop, _ = slow_cut(image, int(shorter), 16, corner)
        pixels = np.asarray(ImageOps.mirror(crop) if flip else crop).astype(float) / 255
        coloured = pixels - np.array(folder.colours.mean) + multiples @ np.array(folder.colours.components)
        expected.append(coloured.transpose(2, 0, 1))
        assert labels[position - 30] == folder.train.labels[number]
    assert_near(found.numpy(), np.stack(expected))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def in_this_process(folder):
    return taken(batches(folder), range(8))


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(folder, in_this_process, workers):
    assert_same(taken(batches(folder, workers), range(8)), in_this_process)


def test_a_start_at_any_step_gives_the_batches_from_there_on(folder, in_this_process):
    assert_same(taken(batches(folder, 1), range(5, 8)), in_this_process[5:])
    assert_same(taken(batches(folder), [2, 2, 6, 1]), [in_this_process[step] for step in (2, 2, 6, 1)])


def test_a_part_of_the_rows_is_that_part_of_the_batch_and_the_checksums_add_up(folder, in_this_process):
    parts = [taken(batches(folder, rows=rows), range(8)) for rows in (range(3), range(3, 10))]
    for step, (whole_images, whole_labels, whole_sum) in enumerate(in_this_process):
        (one, labels, first), (two, more_labels, second) = parts[0][step], parts[1][step]
        assert torch.equal(torch.cat([one, two]), whole_images)
        assert torch.equal(torch.cat([labels, more_labels]), whole_labels)
        assert first + second == whole_sum


def test_another_seed_or_epoch_draws_otherwise(folder):
    first, epoch, seed = (epoch_draws(folder, RECIPE, s, e) for s, e in ((0, 0), (0, 1), (1, 0)))
    for other in (epoch, seed):
        assert all((first[name] != other[name]).any() for name in first.dtype.names)
    assert sorted(first["index"]) == list(range(36))


def test_what_the_recipe_leaves_out_is_not_drawn(folder):
    draws = epoch_draws(folder, Recipe(batch=10, flip=False, colour=0), 0, 0)
    assert not draws["flip"].any()
    assert not draws["colour"].any()


@pytest.mark.parametrize("place", ["index", "shorter", "top", "left", "flip", "colour", "order"])
def test_the_checksum_takes_in_everything_that_was_used(folder, place):
    source = batches(folder)
    source.ready(0)
    before = source.fill(torch.tensor(0))[2]
    used, colour = source._batch.used, source._batch.colour
    if place == "colour":
        colour[4, 1] += 1 / 1024
    elif place == "order":
        used[[0, 1]] = used[[1, 0]]
    else:
        used[4, ["index", "shorter", "top", "left", "flip"].index(place)] += 1
    assert source.fill(torch.tensor(0))[2] != before


def test_workers_decode_a_bounded_number_of_examples_ahead(folder):
    asked = []

    def endless():
        for step in range(1000):
            asked.append(step)
            yield epoch_draws(folder, RECIPE, 0, step)[:PIECE]

    pieces = Loader(folder.train, SMALL.crop, 1, ahead=40, device=CPU)(endless())
    for _ in range(4):
        next(pieces)
    pieces.close()
    assert len(asked) <= 4 + 3  # 40 examples are three pieces of 16


def test_a_batch_larger_than_the_folder_is_refused(folder):
    with pytest.raises(UserError, match=r"recipe.batch is 37, above the 36 training examples"):
        batches(folder, recipe=Recipe(batch=37))


def test_clean_batches_are_the_centres_in_index_order_and_not_augmented(folder):
    mean = torch.from_numpy(folder.mean_image)
    for workers in (0, 1):
        found = list(StreamedCleanBatches(folder, folder.test, mean, 4, workers)(10))
        assert [len(labels) for _, labels in found] == [4, 4, 2]
        labels = torch.cat([labels for _, labels in found]).numpy()
        assert (labels == folder.test.labels[:10]).all()
        for number, image in enumerate(torch.cat([pixels for pixels, _ in found])):
            with Image.open(folder.test.path(number)) as opened:
                expected = np.asarray(slow_cut(opened, 18, 16, (0.5, 0.5))[0]).transpose(2, 0, 1) / 255
            assert_near(image.numpy() + mean.numpy().reshape(3, 1, 1), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_becomes_unreadable_ends_the_batch_in_one_line(tmp_path, workers):
    root = make(tmp_path)
    source = batches(load(listed(SMALL, root), root), workers)
    for file in (root / "train").rglob("3.png"):
        file.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"3.png cannot be read as an image") as caught:
        taken(source, range(4))
    assert "\n" not in str(caught.value)


def test_loading_leaves_the_generator_of_the_process_alone(folder):
    before = torch.get_rng_state()
    taken(batches(folder, 1), range(2))
    assert torch.equal(torch.get_rng_state(), before)

import numpy as np

from zoocast.data.splits import SPLITS, clip_generator, pools, reported, shuffled


def test_pools_cut_everything_once_in_the_shares():
    assert pools(10_000) == {"train": range(7000), "validation": range(7000, 8000), "test": range(8000, 10_000)}
    # Shares 7 and 1 of 8: 40 becomes 35 and 5.
    assert pools(40, ("train", "validation")) == {"train": range(35), "validation": range(35, 40)}
    assert pools(3, ("test",)) == {"test": range(3)}
    for count in range(30):
        assert [i for pool in pools(count).values() for i in pool] == list(range(count))


def test_the_shuffle_is_a_permutation_and_always_the_same():
    items = np.arange(100)
    assert sorted(shuffled(items)) == list(items)
    assert not np.array_equal(shuffled(items), items)
    np.testing.assert_array_equal(shuffled(items), shuffled(items))


def test_each_clip_has_its_own_random_numbers():
    draws = {clip_generator(seed, split, i).random() for seed in (0, 1) for split in SPLITS for i in range(3)}
    assert len(draws) == 2 * 3 * 3
    assert clip_generator(7, "test", 5).random() == clip_generator(7, "test", 5).random()


def test_progress_rises_to_one_over_all_splits():
    said: list[tuple[float, str]] = []
    counts = {"train": 300, "validation": 1, "test": 99}
    for split in SPLITS:
        clips = [np.zeros(1)] * counts[split]
        assert len(list(reported(clips, split, counts, lambda f, m: said.append((f, m))))) == counts[split]
    fractions = [f for f, _ in said]
    assert fractions == sorted(fractions)
    # Every 400 // 100 = 4 clips and at the end of each split: 4, 8 ... 300 in train, 301, then 304, 308 ... 400.
    assert len(said) == 75 + 1 + 25
    assert said[-1] == (1.0, "test: 99 of 99 clips")
    assert (0.75, "train: 300 of 300 clips") in said

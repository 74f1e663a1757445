"""The landscape, and the task of finding a place in it."""

import multiprocessing
from dataclasses import replace

import geo_localization
import numpy as np
import pytest
import terrain
import torch
from draws import long_tailed
from torch.utils.data import default_collate

SETTINGS = replace(geo_localization.DEFAULTS, samples=300)
LOOKS = [(3, 500.0 * i, -70.0 * i, 40.0 * i, 0.8 + 0.1 * i, i % 4) for i in range(5)]


def alike(first, second):
    """Share of the pixels that are equal, but for rounding."""
    return (np.abs(first.astype(int) - second).max(-1) <= 2).mean()


def test_a_view_is_the_same_in_any_order():
    forth = [terrain.view(*look) for look in LOOKS]
    back = [terrain.view(*look) for look in reversed(LOOKS)]
    assert all(np.array_equal(a, b) for a, b in zip(forth, reversed(back), strict=True))
    assert forth[0].dtype == np.uint8
    assert forth[0].shape == (terrain.SIDE, terrain.SIDE, 3)


def test_a_view_is_the_same_in_another_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        made = pool.starmap(terrain.view, LOOKS)
    assert all(np.array_equal(a, terrain.view(*b)) for a, b in zip(made, LOOKS, strict=True))


def test_seeds_and_places_differ():
    views = [terrain.view(seed, x, 0) for seed in (0, 1) for x in (-640, 0, 640)]
    assert max(alike(a, b) for i, a in enumerate(views) for b in views[:i]) < 0.5


@pytest.mark.parametrize("season", range(len(terrain.SEASONS)))
def test_a_point_looks_the_same_in_neighbouring_views(season):
    here = terrain.view(0, 1000, 2000, season=season)
    east = terrain.view(0, 1007, 2000, season=season)
    north = terrain.view(0, 1000, 2005, season=season)
    assert alike(here[:, 7:], east[:, :-7]) > 0.99
    assert alike(here[:-5], north[5:]) > 0.99


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_turns_the_picture(quarters):
    upright, turned = (terrain.view(0, 320, 64, rotation=90 * n) for n in (0, quarters))
    assert alike(np.rot90(upright, quarters), turned) > 0.99
    assert alike(upright, turned) < 0.7


def test_a_coarser_scale_shows_the_same_ground_smaller():
    fine, coarse = terrain.view(0, 320.5, 63.5, scale=1), terrain.view(0, 320, 64, scale=2)
    assert alike(fine[::2, ::2], coarse[8:-8, 8:-8]) > 0.99


def test_seasons_differ_in_colour_alone():
    points = terrain.points(320, 64, 0, 1)
    kind, _ = terrain.ground(0, *points)
    views = [terrain.view(0, 320, 64, season=season) for season in range(4)]
    assert len(np.unique(kind)) > 3
    assert max(alike(a, b) for i, a in enumerate(views) for b in views[:i]) < 0.6
    assert views[2].mean() > views[0].mean()  # snow


@pytest.mark.parametrize("x", [2e8, float("nan")])
def test_a_place_outside_the_world_is_refused(x):
    with pytest.raises(ValueError, match=r"the world ends at 1e\+08 m; go back inside"):
        terrain.view(0, x, 0)


@pytest.mark.parametrize("scale", [0, 5])
def test_a_scale_out_of_range_is_refused(scale):
    with pytest.raises(ValueError, match=r"metres per pixel, in \(0, 4\]; choose it there"):
        terrain.view(0, 0, 0, scale=scale)


def test_the_test_region_is_far_from_all_that_is_trained_on():
    middle = geo_localization.middle
    train = np.array([middle(place) for place in range(geo_localization.PLACES)])
    test = np.array([middle(place, test=True) for place in range(5000)])
    assert len(np.unique(train, axis=0)) == len(train)
    assert train[:, 1].min() - test[:, 1].max() > 1000  # a view reaches some 50 m


def test_a_wrong_label_is_the_tile_of_another_place():
    data, wrong = geo_localization.train_set(SETTINGS), geo_localization.wrong(SETTINGS)
    seen = long_tailed(SETTINGS.seed, "place", np.arange(300), geo_localization.PLACES, tail=0.5)
    labels = np.array([data[i][2] for i in range(300)])
    assert np.array_equal(labels != seen, wrong)
    assert wrong.any()
    for i in (int(wrong.argmax()), int(wrong.argmin())):
        tile = terrain.view(SETTINGS.seed, *geo_localization.middle(int(labels[i])))
        assert np.array_equal(data[i][1], tile)


def test_test_places_are_seen_once_in_each_season():
    data = geo_localization.test_set(replace(SETTINGS, test_samples=12))
    assert [data[i][2] for i in range(12)] == [0] * 4 + [1] * 4 + [2] * 4


def test_another_view_of_the_same_place_is_no_wrong_answer():
    data, net = geo_localization.train_set(SETTINGS), geo_localization.Tower().eval()
    queries, tiles, places = default_collate([data[i] for i in range(6)])
    alone = geo_localization.losses(net, (queries, tiles, places))
    twice = [torch.cat([part, part[:1]]) for part in (queries.flip(1), tiles, places)]
    twice[0][:6] = queries
    again = geo_localization.losses(net, tuple(twice))
    assert torch.allclose(again[0], alone[0], atol=1e-5)
    assert not torch.allclose(again[1:6], alone[1:], atol=1e-3)  # to the others it is one


def test_the_net_does_not_see_a_quarter_turn():
    net = geo_localization.Tower().eval()
    view = terrain.view(0, 320, 64)
    turned = torch.from_numpy(np.stack([np.rot90(view, n) for n in range(4)]))
    there = net(turned).detach()
    assert torch.allclose(there, there[:1].expand_as(there), atol=1e-4)

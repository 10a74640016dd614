"""Whether somebody may have joined the measured person, by small grey pictures."""

from __future__ import annotations

import numpy as np
import pytest

from posture.analyzer.surroundings import Surroundings

SIDE = 16
PERSON = (0.25, 0.25, 0.5, 1.0)
"""4 x 12 cells."""


def scene(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(60, 180, (SIDE, SIDE)).astype(np.float32)


def remembered(thumbnail: np.ndarray) -> Surroundings:
    surroundings = Surroundings()
    surroundings.remember(thumbnail, PERSON)
    return surroundings


def test_of_what_was_never_seen_it_is_not_said_that_nothing_has_changed() -> None:
    surroundings = remembered(scene())
    assert not surroundings.have_changed(scene(), PERSON)
    surroundings.forget()
    assert surroundings.have_changed(scene(), PERSON)
    assert Surroundings().have_changed(scene(), PERSON)


@pytest.mark.parametrize("light", [1.0, 0.2], ids=["day", "dusk"])
def test_somebody_who_hardly_stands_out_and_is_half_hidden_is_noticed(light: float) -> None:
    surroundings = remembered(light * scene())
    joined = scene()
    joined[6:12, 9] += 15
    assert surroundings.have_changed(light * joined, PERSON)


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_a_camera_s_noise_is_nobody(noise: float) -> None:
    surroundings = remembered(scene())
    random = np.random.default_rng(2)
    for _ in range(100):
        seen = scene() + random.normal(0, noise, (SIDE, SIDE)).astype(np.float32)
        assert not surroundings.have_changed(seen, PERSON)


def test_what_the_person_covers_and_uncovers_by_moving_is_nobody() -> None:
    surroundings = remembered(scene())
    seen = scene()
    seen[4:16, 4:10] = 20
    assert not surroundings.have_changed(seen, (0.375, 0.25, 0.625, 1.0))
    assert surroundings.have_changed(seen, PERSON)


def test_a_person_who_reaches_beyond_the_picture_leaves_the_rest_to_be_watched() -> None:
    surroundings = Surroundings()
    surroundings.remember(scene(), (-0.5, -0.2, 0.5, 1.3))
    seen = scene()
    seen[:, 12:] += 30
    assert surroundings.have_changed(seen, (-0.5, -0.2, 0.5, 1.3))

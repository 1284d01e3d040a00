import dataclasses

import jax
import numpy as np
import pytest
from toy_stages import Regression, toy_stage

from clipjax.errors import ConfigError
from clipjax.training.fit import initial
from clipjax.training.stage import Objective


def test_a_stage_without_steps_is_refused():
    with pytest.raises(ConfigError, match="'toy' has 0 steps"):
        toy_stage(steps=0)


@dataclasses.dataclass
class Unhashable:
    def __call__(self, trainable, frozen, carry, batch, rng, step):
        raise NotImplementedError


def test_an_objective_that_cannot_be_compared_is_refused():
    with pytest.raises(ConfigError, match="make the objective a frozen dataclass"):
        dataclasses.replace(toy_stage(), objective=Unhashable())


def test_a_frozen_dataclass_is_an_objective():
    assert isinstance(Regression(), Objective)
    assert Regression() == Regression() and hash(Regression()) == hash(Regression())


def test_the_first_state_is_made_from_the_seed_and_the_params():
    first, other = initial(toy_stage()), initial(toy_stage(seed=1))
    assert int(first.step) == int(first.skipped) == int(first.skipped_in_row) == 0
    assert not np.array_equal(first.key, other.key)
    jax.tree.map(np.testing.assert_array_equal, first.average, toy_stage().trainable)

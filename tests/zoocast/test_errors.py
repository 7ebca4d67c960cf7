import inspect
import pickle

import pytest

from zoocast import errors

DEFINED = {k for k, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)}


def test_all_errors_are_exported_in_order():
    functions = {k for k, v in vars(errors).items() if inspect.isfunction(v) and v.__module__ == errors.__name__}
    assert errors.__all__ == sorted(DEFINED | functions, key=lambda name: (name[0].islower(), name))


def test_every_error_is_in_the_drawing():
    for name in DEFINED:
        assert name in errors.__doc__


@pytest.mark.parametrize(
    ("name", "code"), [("ZoocastError", 1), ("ConfigError", 2), ("InfrastructureError", 4), ("IntegrityError", 5)]
)
def test_every_error_has_its_exit_code(name, code):
    assert getattr(errors, name).exit_code == code


def test_config_error_names_its_field_from_the_outside_in():
    error = errors.ConfigError("learning_rate", "must be positive").under("training").under("target")
    assert str(error) == "target.training.learning_rate: must be positive"
    with pytest.raises(errors.ConfigError, match=r"^pipeline\.target\.training"), errors.within("pipeline"):
        raise error


def test_config_error_survives_the_border_of_a_process():
    error = pickle.loads(pickle.dumps(errors.ConfigError("a.b", "no")))
    assert (error.field, error.message) == ("a.b", "no")

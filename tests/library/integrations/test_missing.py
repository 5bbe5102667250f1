"""Without the packages that they are for, integrations import, and say what is missing when they are used."""

import sys

import pytest

import scaleinv


@pytest.mark.parametrize(
    "name, module, packages",
    [
        ("TrainerAudit", "trainer", ("transformers",)),
        (
            "LightningAudit",
            "lightning",
            ("lightning", "lightning.pytorch", "lightning.pytorch.callbacks", "pytorch_lightning"),
        ),
    ],
)
def test_a_missing_package_is_named(monkeypatch, name, module, packages):
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"scaleinv.integrations.{module}", raising=False)
    callback = getattr(scaleinv.integrations, name)
    with pytest.raises(ImportError, match=f"{name} needs"):
        callback(*(["trainer"] if module == "trainer" else []))
    monkeypatch.delitem(sys.modules, f"scaleinv.integrations.{module}")


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Keras"):
        scaleinv.integrations.Keras  # noqa: B018

"""Label files of phantom releases, read once."""

from xml.etree import ElementTree

import pytest

from tests.releases import label_files


@pytest.fixture(scope="session")
def reports():
    return [ElementTree.fromstring(data) for data in label_files("openi").values()]

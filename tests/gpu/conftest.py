"""Fixtures that several rooms share: a text to learn, and torch on one thread."""

import pytest
import torch


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """The path of a short text that repeats itself."""
    path = tmp_path_factory.mktemp("corpus") / "abc.txt"
    path.write_text("abcabcabc abc\nabba\n" * 60)
    return str(path)


@pytest.fixture(scope="module")
def one_thread():
    """For products so small that threads would spend most of their time waiting for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

"""The results page: tables and figures of what the results files hold."""

__all__ = ["FOLDER", "report"]


def __getattr__(name):  # so that commands can answer --help without matplotlib
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import page

    return getattr(page, name)

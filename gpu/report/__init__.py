"""The results page: tables and figures of what the results files hold."""

from .page import FOLDER, report

__all__ = ["FOLDER", "report"]

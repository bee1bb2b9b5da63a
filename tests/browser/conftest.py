"""What tests of the pages have: a browser, and a host of their module."""

from tests.support.browser import browser, pages
from tests.support.host_process import host, own_host

__all__ = ["browser", "host", "own_host", "pages"]

from tests.integration.app import app

__all__ = ["app"]

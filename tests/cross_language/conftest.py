from tests.cross_language.javascript import effects, javascript, packages
from tests.integration.app import app

__all__ = ["app", "effects", "javascript", "packages"]

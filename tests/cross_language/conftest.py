from tests.cross_language.javascript import effects, javascript, packages

__all__ = ["effects", "javascript", "packages"]

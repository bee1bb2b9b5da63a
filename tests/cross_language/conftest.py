from tests.cross_language.javascript import effects, javascript, node, packages

__all__ = ["effects", "javascript", "node", "packages"]

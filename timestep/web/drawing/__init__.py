"""Lays out drawings of the pages: where shapes are. Templates draw them; nothing here knows SVG."""

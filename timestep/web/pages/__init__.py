"""The web pages, made on the server. Text of models, tools and people in them is text."""

"""Forms of JSON schemas: `schema_forms` makes their fields, and reads what was typed into them."""

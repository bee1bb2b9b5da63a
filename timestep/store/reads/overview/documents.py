"""Makes the parts of queries that read documents: only so much of each as a page shows.

A call may have megabytes of arguments, and be nested more deeply than Python reads.
"""

from __future__ import annotations

WHOLE = 20_000
"""Characters of a document that are read; of a longer one, its beginning."""
_SET_ASIDE = 100_000
"""The same of one that JSONB cannot hold and has as text, whose parts no query tells."""
_NAMED = 200
"""Values of an object that are read."""
_LONGEST = 2000
"""Characters of a value, until `WHOLE` of the object are read; of later ones, `_LEAST`."""
_LEAST = 100
_LONGEST_NAME = 201
LONGEST_SAID = 1000
"""Characters of what was said that are read where the whole is long."""


def document(column: str, order: str) -> str:
    """What is read of a JSONB column of `interruptions i`: its text, and an object's values.

    Args:
        column: Its name. `…_length` is how many characters it has, `…_pieces` each value's name,
            type, text (of a text, what it says), length and hash, and `…_count` how many there are.
        order: JSON of names that come first, if it is an array.
    """
    whole = f"i.{column}"
    object_ = f"CASE WHEN jsonb_typeof({whole}) = 'object' THEN {whole} END"
    names = f"CASE WHEN jsonb_typeof({order}) = 'array' THEN {order} END"
    return f"""
    left({whole}::text, CASE WHEN jsonb_exists({whole}, '$text') THEN {_SET_ASIDE} ELSE {WHOLE} END)
        AS {column},
    length({whole}::text) AS {column}_length,
    (SELECT count(*) FROM jsonb_object_keys({object_})) AS {column}_count,
    (SELECT json_agg(json_build_array(left(p.key, {_LONGEST_NAME}), p.type,
            left(p.text, CASE WHEN p.so_far <= {WHOLE} THEN {_LONGEST} ELSE {_LEAST} END),
            length(p.text), encode(sha256(convert_to(p.text, 'UTF8')), 'hex')) ORDER BY p.nth)
        FROM (SELECT v.*, sum(least(length(v.text), {_LONGEST})) OVER (ORDER BY v.nth) AS so_far
            FROM (SELECT one.key, jsonb_typeof(one.value) AS type, one.nth,
                    CASE jsonb_typeof(one.value) WHEN 'string' THEN one.value #>> '{{}}'
                        ELSE one.value::text END AS text
                FROM (SELECT e.key, e.value, row_number() OVER (ORDER BY o.nth, e.nth) AS nth
                    FROM jsonb_each({object_}) WITH ORDINALITY AS e(key, value, nth)
                    LEFT JOIN (SELECT name, min(nth) AS nth
                        FROM jsonb_array_elements_text({names}) WITH ORDINALITY AS listed(name, nth)
                        GROUP BY name) AS o ON o.name = e.key) AS one
                WHERE one.nth <= {_NAMED}) AS v) AS p) AS {column}_pieces"""


def said(item: str) -> str:
    """What is read of an item: `item`, as text; `is_cut`: only what is said in it, as an item.

    Args:
        item: An expression of JSONB.
    """
    content = f"{item} -> 'content'"
    text = f"left(coalesce(part ->> 'text', part::text), {LONGEST_SAID})"
    parts = f"""(SELECT string_agg({text}, E'\\n')
        FROM (SELECT part FROM jsonb_array_elements({content}) AS part LIMIT 5) AS few)"""
    long = f"length({item}::text) > {WHOLE}"
    return f"""
        CASE WHEN NOT {long} THEN {item}::text
        WHEN jsonb_typeof({item}) = 'string' THEN
            jsonb_build_object('role', 'user', 'content', left({item} #>> '{{}}', {LONGEST_SAID}))
            ::text
        ELSE jsonb_strip_nulls(jsonb_build_object(
            'type', {item} -> 'type', 'role', {item} -> 'role', 'name', {item} -> 'name',
            'arguments', left({item} ->> 'arguments', {LONGEST_SAID}),
            'output', left({item} ->> 'output', {LONGEST_SAID}),
            'content', left(CASE jsonb_typeof({content}) WHEN 'array' THEN {parts}
                WHEN 'string' THEN {item} ->> 'content' ELSE left({item}::text, {LONGEST_SAID}) END,
                {LONGEST_SAID})))::text END AS item,
        {long} AS is_cut"""

"""Prices what a request to a model used, by the public price list."""

from __future__ import annotations

import functools
from decimal import Decimal

from agents import Usage

from timestep.serialization.sdk_objects import Row


def usage_columns(usage: Usage, model: str | None) -> Row:
    """Token counts and estimated cost (US dollars; None where no price is known)."""
    cached = usage.input_tokens_details.cached_tokens or 0
    return {
        "requests": usage.requests,
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": cached,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.output_tokens_details.reasoning_tokens or 0,
        "total_tokens": usage.total_tokens,
        "estimated_cost": _cost(model, usage.input_tokens, cached, usage.output_tokens),
    }


@functools.cache
def _is_priced(model: str) -> bool:
    import genai_prices  # by the first answer: a replay needs no prices, and has to be fast

    try:
        genai_prices.calc_price(genai_prices.Usage(), model)
    except LookupError:
        return False
    return True


def _cost(model: str | None, input_tokens: int, cached: int, output_tokens: int) -> str | None:
    if model is None or not _is_priced(model):
        return None
    import genai_prices

    usage = genai_prices.Usage(
        input_tokens=max(input_tokens, cached),
        cache_read_tokens=cached,
        output_tokens=output_tokens,
    )
    price: Decimal = genai_prices.calc_price(usage, model).total_price
    return str(price)

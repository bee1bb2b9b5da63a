"""A support desk: triage hands the customer to billing or to shipping; guardrails watch it."""

import re

from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    RunContextWrapper,
    TResponseInputItem,
    function_tool,
    input_guardrail,
    output_guardrail,
)
from dbos import DBOS

import timestep
from timestep.offline import Call, Conversation, call, fallback

ORDERS = {
    "A100": {"total": "49.00 EUR", "paid_with": "card ending in 4242", "parcel": "in transit"},
    "A101": {"total": "18.50 EUR", "paid_with": "card 4242424242424242", "parcel": "delivered"},
}
ABUSE = re.compile(r"\b(idiots?|morons?|stupid)\b", re.IGNORECASE)
CARD_NUMBER = re.compile(r"\b\d{13,19}\b")


@function_tool
def find_invoice(order_id: str) -> str:
    """What an order cost and how it was paid."""
    order = ORDERS.get(order_id)
    return f"{order['total']}, {order['paid_with']}" if order else "no such order"


@function_tool
def track_parcel(order_id: str) -> str:
    """Where an order's parcel is."""
    order = ORDERS.get(order_id)
    return order["parcel"] if order else "no such order"


@input_guardrail(run_in_parallel=False)
def polite(
    context: RunContextWrapper[None], agent: Agent[None], message: str | list[TResponseInputItem]
) -> GuardrailFunctionOutput:
    """Abusive messages are not answered."""
    found = ABUSE.findall(str(message))
    return GuardrailFunctionOutput(output_info=found, tripwire_triggered=bool(found))


@output_guardrail
def no_card_numbers(
    context: RunContextWrapper[None], agent: Agent[None], answer: str
) -> GuardrailFunctionOutput:
    """No answer shows a card number."""
    found = CARD_NUMBER.search(answer) is not None
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=found)


def order_in(seen: Conversation) -> str:
    found = re.search(r"\b[A-Z]\d{3}\b", seen.text.upper())
    return found.group() if found else "unknown"


def choose_desk(seen: Conversation) -> list[Call]:
    about_money = re.search(r"invoice|charge|pay|paid|refund|cost", seen.text.lower())
    return [call("transfer_to_billing" if about_money else "transfer_to_shipping")]


billing = Agent(
    name="Billing",
    instructions="You answer questions about invoices and payments. Look the order up first.",
    tools=[find_invoice],
    output_guardrails=[no_card_numbers],
    model=fallback(
        lambda seen: [call("find_invoice", order_id=order_in(seen))],
        lambda seen: f"Order {order_in(seen)}: {seen.output('find_invoice')}.",
    ),
)
shipping = Agent(
    name="Shipping",
    instructions="You answer questions about deliveries. Look the parcel up first.",
    tools=[track_parcel],
    output_guardrails=[no_card_numbers],
    model=fallback(
        lambda seen: [call("track_parcel", order_id=order_in(seen))],
        lambda seen: f"The parcel of order {order_in(seen)}: {seen.output('track_parcel')}.",
    ),
)
triage = Agent(
    name="Triage",
    instructions="You greet the customer and hand over to the right desk.",
    handoffs=[billing, shipping],
    input_guardrails=[polite],
    model=fallback(choose_desk),
)


@DBOS.workflow()
async def customer_support(message: str) -> str:
    """Answer a customer's message."""
    try:
        result = await timestep.run_agent(triage, message)
    except InputGuardrailTripwireTriggered:
        return "We are glad to help. Please tell us kindly what went wrong."
    except OutputGuardrailTripwireTriggered:
        return "We cannot show that here. A colleague will write to you."
    return str(result.final_output)

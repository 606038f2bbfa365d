"""Publishes the events of events.ndjson to NATS and prints the decisions that come back (pip install nats-py)."""

import asyncio
import json
import pathlib
import sys

import nats

EVENTS = pathlib.Path(__file__).with_name("events.ndjson")
DECISIONS = 5


async def main(server):
    connection = await nats.connect(server)
    stream = connection.jetstream()
    await stream.add_stream(name="ORDERS", subjects=["orders.>"])
    await stream.add_stream(name="DECISIONS", subjects=["decisions.>"])
    for line in EVENTS.read_bytes().splitlines():
        await stream.publish("orders." + json.loads(line)["type"], line)
    decisions = await stream.subscribe("decisions.>", ordered_consumer=True)
    for _ in range(DECISIONS):
        decision = await decisions.next_msg(timeout=60)
        told = [decision.header["Nats-Msg-Id"], decision.header["ce-decisionstate"], decision.data.decode()]
        print(*filter(None, told))
    await connection.close()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"))

"""List a Kafka cluster's topics over mutual TLS: python kafka_client.py HOST:PORT SPIFFE_ID_OF_THE_BROKERS."""

import asyncio
import sys

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.kafka import broker_spiffe_ids, mtls_consumer
from authsec_sdk.workloadapi import X509Source


async def main(where: str, brokers: str) -> None:
    async with X509Source() as source:
        consumer = mtls_consumer(source, authorize_id(brokers), bootstrap_servers=where)
        await consumer.start()
        try:
            topics = ", ".join(sorted(await consumer.topics()))
            seen = ", ".join(f"{node} is {name}" for node, name in broker_spiffe_ids(consumer).items())
            print(f"topics: {topics}; broker {seen}")
        finally:
            await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

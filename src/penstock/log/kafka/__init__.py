"""The log on Kafka, by its client librdkafka (confluent-kafka)."""

from penstock.log.kafka.address import brokers_of
from penstock.log.kafka.configuration import ClientConfiguration
from penstock.log.kafka.kafka_log import KafkaLog

__all__ = ["ClientConfiguration", "KafkaLog", "brokers_of"]

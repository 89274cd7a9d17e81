//! End-to-end tests of the whole shop, in `tests/`: real processes, a real Postgres, a real Apache Kafka.

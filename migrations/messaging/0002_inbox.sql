-- The receiving side: what was handled (the trail, which is the inbox too) and what could not be.

-- One row per message, call, timer or verb that a consumer handled. Partitioned by the UTC day of the
-- event's time mod 32, so that a duplicate always meets the row of the original; the slot that has
-- expired is truncated daily.
create table messaging.trail (
    slot           smallint    not null,
    event_id       uuid        not null,
    consumer       text        not null,
    kind           text        not null,
    type           text        not null,
    correlation_id uuid,
    causation_id   uuid,
    source         text        not null,
    -- When the event came about, reached Kafka, reached this process, and was committed here.
    created_at     timestamptz not null,
    kafka_time     timestamptz,
    received_at    timestamptz not null,
    handled_at     timestamptz not null default clock_timestamp(),
    topic          text,
    partition      integer,
    "offset"       bigint,
    outcome        text        not null,
    trace_id       text,
    -- The events this transaction emitted: [{"id", "type", "topic", "key"}].
    emitted        jsonb       not null default '[]',
    -- How many times the message was delivered; more than one is a duplicate that was absorbed.
    deliveries     integer     not null default 1,
    primary key (slot, event_id, consumer),
    constraint trail_kind_known check (kind in ('message', 'call', 'timer', 'verb')),
    constraint trail_outcome_known check
        (outcome in ('applied', 'duplicate', 'own_origin', 'raced', 'ignored', 'parked', 'skipped'))
) partition by list (slot);

do $$
begin
    for day in 0..31 loop
        execute format('create table messaging.trail_%s partition of messaging.trail for values in (%s)', day, day);
    end loop;
end
$$;

create index trail_correlation on messaging.trail (correlation_id) where correlation_id is not null;

-- Messages that could not be handled, and the later messages of their keys, in the order of arrival.
create table messaging.inbox_parked (
    parked_id  bigint      not null generated always as identity primary key,
    consumer   text        not null,
    key        text        not null,
    topic      text        not null,
    partition  integer     not null,
    "offset"   bigint      not null,
    kafka_time timestamptz not null,
    -- As they came: [[name, the bytes of the value or null]].
    headers    jsonb       not null,
    payload    bytea,
    reason     text        not null,
    parked_at  timestamptz not null default clock_timestamp(),
    constraint inbox_parked_once unique (consumer, topic, partition, "offset")
);

create index inbox_parked_key on messaging.inbox_parked (consumer, key, parked_id);

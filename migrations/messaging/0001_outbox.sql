-- The transactional outbox: a service INSERTs here in the transaction that changes its state;
-- the relay ships the rows to Kafka. This file is the relay's whole contract with a service.

create schema if not exists messaging;

-- CACHE 1: a session that hoards numbers would break "sequence order is commit order" within a key.
create sequence messaging.outbox_seq cache 1;

-- A ring of four children, chosen by the minute: a child whose rows are all acknowledged is truncated,
-- so that publishing leaves no dead tuples behind.
create table messaging.outbox (
    slot       smallint    not null default (floor(extract(epoch from clock_timestamp()) / 60)::bigint % 4),
    seq        bigint      not null default nextval('messaging.outbox_seq'),
    xid        xid8        not null default pg_current_xact_id(),
    -- Computed here, never by writers: every relay must agree on which shard a key belongs to.
    shard      smallint    not null generated always as (get_byte(decode(md5(key), 'hex'), 0) & 63) stored,
    event_id   uuid        not null,
    topic      text        not null,
    key        text        not null,
    headers    jsonb       not null default '{}',
    -- null is a tombstone on a compacted topic.
    payload    bytea,
    created_at timestamptz not null default clock_timestamp(),
    -- Kafka refuses more than a megabyte; the writer is the one who can still do something about it.
    constraint outbox_payload_below_900_kb check (octet_length(payload) < 900000),
    -- A crash could otherwise lose a row whose event is already in Kafka: a ghost.
    constraint outbox_needs_synchronous_commit check (current_setting('synchronous_commit') <> 'off'),
    constraint outbox_headers_are_an_object check (jsonb_typeof(headers) = 'object')
) partition by list (slot);

create table messaging.outbox_0 partition of messaging.outbox for values in (0) with (autovacuum_enabled = off);
create table messaging.outbox_1 partition of messaging.outbox for values in (1) with (autovacuum_enabled = off);
create table messaging.outbox_2 partition of messaging.outbox for values in (2) with (autovacuum_enabled = off);
create table messaging.outbox_3 partition of messaging.outbox for values in (3) with (autovacuum_enabled = off);

create index outbox_xid on messaging.outbox (xid);
create index outbox_seq_order on messaging.outbox (seq);

-- How far each shard has been shipped: every row visible in `acked` is in Kafka; inside the frozen window
-- `target`, every row up to `sent_seq` is too.
create table messaging.outbox_cursor (
    shard             smallint    not null primary key,
    owner             text,
    epoch             bigint      not null default 0,
    lease_until       timestamptz not null default '-infinity',
    acked             pg_snapshot not null default pg_current_snapshot(),
    target            pg_snapshot,
    sent_seq          bigint,
    system_identifier bigint,
    timeline          integer,
    constraint outbox_cursor_shard_in_range check (shard between 0 and 63),
    constraint outbox_cursor_target_and_seq_together check ((target is null) = (sent_seq is null))
) with (fillfactor = 10); -- moved many times a second: room for every new version on the same page

insert into messaging.outbox_cursor (shard) select generate_series(0, 63);

-- Full copies of rows that Kafka refused for good, and of the later rows of their keys.
create table messaging.outbox_parked (
    seq        bigint      not null primary key,
    shard      smallint    not null,
    event_id   uuid        not null,
    topic      text        not null,
    key        text        not null,
    headers    jsonb       not null,
    payload    bytea,
    created_at timestamptz not null,
    reason     text        not null,
    parked_at  timestamptz not null default clock_timestamp()
);

create index outbox_parked_key on messaging.outbox_parked (key, seq);

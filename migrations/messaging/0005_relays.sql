-- Several relays for one outbox: who is alive, which shards each of them ships, and what people wish of them.

-- A running relay. Its lease covers every shard that names it as owner, so that a renewal writes one row; a row that is
-- deleted never comes back under the same name, and with it end all of its shards.
create table messaging.outbox_relay (
    -- Unique to one lease of one process.
    owner       text        not null primary key,
    name        text        not null,
    lease_until timestamptz not null,
    -- Told to hand over its shards and to take no others.
    draining    boolean     not null default false,
    started_at  timestamptz not null default clock_timestamp()
) with (fillfactor = 50, autovacuum_vacuum_threshold = 1000);

-- One verb per shard, for its owner to carry out before it ships on.
alter table messaging.outbox_cursor
    drop column lease_until,
    add column paused  boolean not null default false,
    add column wish    jsonb,
    -- Counts the wishes that moved this cursor by hand: a position noted in Kafka before such a move counts no more.
    add column moves   bigint  not null default 0,
    -- The Kafka transactional id under which the shard was last shipped: whoever takes the shard fences it first.
    add column fence   text;

-- What a person wishes for the first parked row of a key.
alter table messaging.outbox_parked
    add column wish text,
    -- Not yet passed by the cursor: exactly-once mode keeps a row here before it sends those around it.
    add column held boolean not null default false,
    add constraint outbox_parked_wish_known check (wish in ('retry', 'skip'));

create index outbox_parked_topic on messaging.outbox_parked (topic, reason);
create index outbox_parked_wish on messaging.outbox_parked (wish) where wish is not null;

do $$
begin
    if exists (select from pg_roles where rolname = 'outbox_relay') then
        grant select, insert, update, delete on messaging.outbox_relay to outbox_relay;
        grant update on messaging.outbox_parked to outbox_relay;
    end if;
    -- A service that owns nothing but its own tables.
    if exists (select from pg_roles where rolname = 'outbox_writer') then
        grant usage on schema messaging to outbox_writer;
        grant insert on messaging.outbox to outbox_writer;
        grant usage on sequence messaging.outbox_seq to outbox_writer;
    end if;
    -- Whoever runs the verbs by hand: sees everything but the payloads, changes wishes alone.
    if exists (select from pg_roles where rolname = 'outbox_operator') then
        grant usage on schema messaging to outbox_operator;
        grant select on messaging.outbox_cursor, messaging.outbox_relay to outbox_operator;
        grant select (slot, seq, xid, shard, event_id, topic, key, headers, created_at) on messaging.outbox to outbox_operator;
        grant select (seq, shard, event_id, topic, key, headers, created_at, reason, parked_at, wish)
            on messaging.outbox_parked to outbox_operator;
        grant select on sequence messaging.outbox_seq to outbox_operator;
        grant update (paused, wish) on messaging.outbox_cursor to outbox_operator;
        grant update (draining) on messaging.outbox_relay to outbox_operator;
        grant update (wish) on messaging.outbox_parked to outbox_operator;
    end if;
end
$$;

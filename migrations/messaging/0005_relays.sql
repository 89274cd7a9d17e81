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
    -- Shards that move together: this one stands where that one does, and its own position is of the past. So a move writes
    -- one row, and leaves one dead one behind, which a snapshot that is held for long makes expensive.
    add column follows smallint,
    add column paused  boolean not null default false,
    add column wish    jsonb,
    -- Counts the wishes that moved this cursor by hand: a position noted in Kafka before such a move counts no more.
    add column moves   bigint  not null default 0,
    -- The Kafka transactional id under which the shard was last shipped: whoever takes the shard fences it first.
    add column fence   text;

-- Where each shard really stands.
create view messaging.outbox_standing as
select shard.shard,
       shard.owner,
       shard.epoch,
       stand.acked,
       stand.target,
       stand.sent_seq,
       shard.paused,
       shard.wish,
       shard.moves,
       shard.fence,
       shard.system_identifier,
       shard.timeline
from messaging.outbox_cursor shard
join messaging.outbox_cursor stand on stand.shard = coalesce(shard.follows, shard.shard);

-- What a person wishes for the first parked row of a key.
alter table messaging.outbox_parked
    add column wish text,
    -- Not yet passed by the cursor: exactly-once mode keeps a row here before it sends those around it.
    add column held boolean not null default false,
    add constraint outbox_parked_wish_known check (wish in ('retry', 'skip'));

create index outbox_parked_topic on messaging.outbox_parked (topic, reason);
create index outbox_parked_wish on messaging.outbox_parked (wish) where wish is not null;

-- As before, by where the shards really stand.
create or replace function messaging.rotate_outbox(child integer)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms'
as $$
declare
    ring    text[] := array['outbox_0', 'outbox_1', 'outbox_2', 'outbox_3'];
    newest  xid8;
    settled xid8;
begin
    if child = floor(extract(epoch from clock_timestamp()) / 60)::bigint % 4 then
        return false;
    end if;
    for attempt in 1..2 loop
        execute format('select xid from only messaging.%I order by xid desc limit 1', ring[child + 1]) into newest;
        select pg_snapshot_xmin(acked)
        into settled
        from messaging.outbox_standing
        order by pg_snapshot_xmin(acked)
        limit 1;
        if newest is null or newest >= settled then
            return false;
        end if;
        -- The first look spares the lock; the second one, under it, counts: no writer is left inside the child.
        if attempt = 1 then
            execute format('lock table only messaging.%I in access exclusive mode', ring[child + 1]);
        end if;
    end loop;
    execute format('truncate only messaging.%I', ring[child + 1]);
    return true;
end
$$;

create or replace function messaging.adopt_outbox()
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Nothing at or above this number counts as acknowledged: not the rows stamped here, nor what commits meanwhile.
    start xid8 := pg_snapshot_xmin(pg_current_snapshot());
begin
    update messaging.outbox
    set xid = pg_current_xact_id();
    update messaging.outbox_cursor
    set acked = format('%s:%s:', start, start)::pg_snapshot,
        target = null,
        sent_seq = null,
        follows = null,
        moves = moves + 1;
end
$$;

do $$
begin
    if exists (select from pg_roles where rolname = 'outbox_relay') then
        grant select on messaging.outbox_standing to outbox_relay;
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
        grant select on messaging.outbox_cursor, messaging.outbox_standing, messaging.outbox_relay to outbox_operator;
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

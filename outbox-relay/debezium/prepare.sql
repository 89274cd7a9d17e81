-- Prepares "public"."outboxevent" for the outbox relay. Run it with psql, as the table's owner, once the tables of
-- migrations/messaging are there; not inside a transaction. Running it again does no harm.

begin;
-- Every writer waits while the rows that are there get their numbers; nobody waits long for the lock itself.
set local lock_timeout = '2s';
alter table "public"."outboxevent"
    add column if not exists "seq" bigint not null generated always as identity (cache 1),
    add column if not exists "xid" xid8 not null default pg_current_xact_id(),
    add column if not exists "created_at" timestamptz not null default clock_timestamp();

do $$
begin
    if exists (select from pg_roles where rolname = 'outbox_relay') then
        grant usage on schema "public" to outbox_relay;
        grant select on "public"."outboxevent" to outbox_relay;
    end if;
end
$$;

-- After a restore on another cluster, --adopt-cluster sends again what is in the table.
create or replace function messaging.adopt_outbox()
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    start xid8 := pg_snapshot_xmin(pg_current_snapshot());
begin
    update "public"."outboxevent"
    set "xid" = pg_current_xact_id();
    update messaging.outbox_cursor
    set acked = format('%s:%s:', start, start)::pg_snapshot,
        target = null,
        sent_seq = null,
        follows = null,
        moves = moves + 1;
end
$$;
commit;

create unique index concurrently if not exists "relay_seq_of_outboxevent" on "public"."outboxevent" ("seq");
create index concurrently if not exists "relay_xid_of_outboxevent" on "public"."outboxevent" ("xid");

-- What is committed by now counts as sent, unless a relay has begun already: `outbox-relay reset-cursor --to earliest`
-- says otherwise.
update messaging.outbox_cursor
set acked = pg_current_snapshot(),
    target = null,
    sent_seq = null
where epoch = 0;

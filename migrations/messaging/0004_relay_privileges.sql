-- What the relay may do beyond reading: empty an acknowledged child of the ring, and take over a restored copy.
-- Both as functions with the owner's rights, so that the relay's own role needs none on the table.

-- Truncates the child unless it is the current one, is empty, or holds a row that is not acknowledged by every
-- shard. A lock that is not granted at once is given up, because inserts would queue behind it.
create function messaging.rotate_outbox(child integer)
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
        from messaging.outbox_cursor
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

-- On another cluster (a restored dump) transaction numbers mean nothing: every row still in the ring is stamped
-- anew and counts as unsent, so that none is skipped; what had been sent from it is sent twice.
create function messaging.adopt_outbox()
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
        sent_seq = null;
end
$$;

revoke execute on function messaging.rotate_outbox(integer) from public;
revoke execute on function messaging.adopt_outbox() from public;

do $$
begin
    if exists (select from pg_roles where rolname = 'outbox_relay') then
        grant usage on schema messaging to outbox_relay;
        grant select on messaging.outbox, messaging.outbox_cursor to outbox_relay;
        grant select on sequence messaging.outbox_seq to outbox_relay;
        grant update on messaging.outbox_cursor to outbox_relay;
        grant select, insert, delete on messaging.outbox_parked to outbox_relay;
        grant execute on function messaging.rotate_outbox(integer), messaging.adopt_outbox() to outbox_relay;
    end if;
end
$$;

-- What a cursor may say, of which cluster it says it, and which parked rows it has yet to pass.

-- Transaction numbers mean something on one cluster only. The cursor names it from its first day, so that a copy that is
-- restored elsewhere is recognised even if no relay has shipped from it yet. One that is ahead of this cluster is such a copy.
update messaging.outbox_cursor
set system_identifier = (select system_identifier from pg_control_system()),
    timeline = ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer
where system_identifier is null
  and pg_snapshot_xmax(acked) <= pg_snapshot_xmax(pg_current_snapshot());

-- A wish of a verb that no relay knows would wait for nobody. What such a one lacks beyond its verb, its owner tells.
update messaging.outbox_cursor
set wish = null
where not coalesce(wish ->> 'verb' in ('replay', 'to_earliest', 'to_latest'), wish is null);

alter table messaging.outbox_cursor
    add constraint outbox_cursor_wish_known check
        (wish is null or coalesce(wish ->> 'verb' in ('replay', 'to_earliest', 'to_latest'), false));

-- No parked row goes out before an earlier one of its key that is held: of those there are few, and each row that is to go
-- looks for one.
create index outbox_parked_held on messaging.outbox_parked (key, seq) where held;

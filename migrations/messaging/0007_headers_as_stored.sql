-- Headers are kept as the text that was written: json, not jsonb. The relay reads every row once and wants nothing but that
-- text; making it anew of jsonb was a quarter of what reading a row of 1 kB cost Postgres, and two fifths at 200 B. The order of
-- the headers and their repetitions are now the writer's. Text that json takes and jsonb does not (half a surrogate pair)
-- parks its key.
--
-- On a live outbox this rewrites the ring and its indexes while inserts wait: half a minute for a million rows on a busy
-- machine, next to nothing for a ring that is shipped and emptied. The relay ships headers of both types, and writers that cast
-- to jsonb go on working, so nothing else has to change with it. A relay may run meanwhile: its prepared statements return
-- another type then, and at worst it reads again from its cursor, since xid and seq of the rows do not change. Behind a long
-- reader this gives up rather than let every insert queue behind it: run it again then.
set local lock_timeout = '2s';

alter table messaging.outbox
    drop constraint outbox_headers_are_an_object,
    alter column headers drop default,
    alter column headers type json,
    alter column headers set default '{}',
    add constraint outbox_headers_are_an_object check (json_typeof(headers) = 'object');

-- Full copies, so of the same type.
alter table messaging.outbox_parked
    alter column headers type json;

-- Which event a parked message is. Whoever repeats a message sends the same event at another offset, and one copy of it is
-- enough to park. Computed, so that what is parked already, or still will be by an older version, says it too.

-- None where no id can be read, as in what cannot be decoded. A header's value is a list of bytes; the last of equal names counts.
create function messaging.event_id(headers jsonb)
returns uuid
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select case when id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then id::uuid end
    from (
        select (
            -- Postgres knows no character 0.
            select string_agg(chr(coalesce(nullif(byte::integer, 0), 1)), '' order by place)
            from jsonb_array_elements_text(
                case jsonb_typeof(header -> 1) when 'array' then header -> 1 else '[]' end
            ) with ordinality as bytes (byte, place)
        ) as id
        from jsonb_array_elements(headers) with ordinality as listed (header, place)
        where header ->> 0 = 'ce_id'
        order by place desc
        limit 1
    ) as last
$$;

-- Every batch looks at this table: behind a long reader this gives up rather than let the batches queue behind it.
set local lock_timeout = '2s';

alter table messaging.inbox_parked
    add column event_id uuid generated always as (messaging.event_id(headers)) stored;

create index inbox_parked_event on messaging.inbox_parked (event_id) where event_id is not null;

-- Copies every row that is inserted into "public"."outboxevent" to messaging.outbox, in the same transaction.
-- Run it as the owner of both.

create function messaging."copy_outboxevent"()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into messaging.outbox (event_id, topic, key, headers, payload)
    values (
        case when new."id"::text ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then new."id"::text else md5(new."id"::text) end::uuid,
        'outbox.event.' || coalesce(new."aggregatetype"::text, ''),
        coalesce(new."aggregateid"::text, ''),
        jsonb_build_object('id', new."id"::text),
        case when pg_typeof(new."payload") = 'bytea'::regtype then new."payload"::text::bytea else convert_to(new."payload"::text, 'UTF8') end
    );
    return null;
end
$$;

create trigger relay_copies
after insert on "public"."outboxevent"
for each row execute function messaging."copy_outboxevent"();

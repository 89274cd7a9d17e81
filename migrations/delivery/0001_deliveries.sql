-- One forward-only row per order. Rows are never deleted: a replayed placement must meet its own.
create table deliveries (
    order_id          uuid        not null primary key,
    -- null for a tombstone: the order was cancelled before it was heard of, and no delivery was ever opened.
    delivery_id       uuid,
    state             text        not null,
    -- Pinned on the order; told with every event.
    coordination      text        not null,
    customer_id       text,
    customer_name     text,
    delivery_address  text,
    -- [{"product_id", "product_name", "quantity"}]
    lines             jsonb,
    failure_reason    text,
    -- A cancellation that came after the goods had left was refused, once.
    cancel_refused    boolean     not null default false,
    -- The event that told of the cancellation or failure: an OrderCancelled that follows from it is our own doing.
    decision_event_id uuid,
    version           bigint      not null,
    created_at        timestamptz not null,
    updated_at        timestamptz not null,
    constraint deliveries_delivery_id_once unique (delivery_id),
    constraint deliveries_state_known check
        (state in ('started', 'ready', 'dispatched', 'completed', 'cancelled', 'failed', 'tombstone')),
    constraint deliveries_coordination_known check (coordination in ('choreography', 'orchestration')),
    constraint deliveries_only_a_tombstone_has_no_parcel check (
        num_nonnulls(delivery_id, customer_id, customer_name, delivery_address, lines)
            = case when state = 'tombstone' then 0 else 5 end
    ),
    constraint deliveries_failed_says_why check ((failure_reason is not null) = (state = 'failed')),
    constraint deliveries_called_off_says_by_what check
        ((decision_event_id is not null) = (state in ('cancelled', 'failed'))),
    constraint deliveries_refused_only_after_dispatch check
        (not cancel_refused or state in ('dispatched', 'completed')),
    constraint deliveries_version_from_one check (version >= 1)
);

-- ListDeliveries, newest first; nobody is shown a tombstone.
create index deliveries_newest on deliveries (created_at desc, delivery_id desc) where delivery_id is not null;
create index deliveries_newest_by_state on deliveries (state, created_at desc, delivery_id desc)
    where delivery_id is not null;

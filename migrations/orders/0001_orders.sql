-- Orders: the one register of decisions, how each decision came about, and the catalogue as orders last heard of it.

create table orders (
    order_id         uuid        not null primary key,
    customer_id      text        not null,
    customer_name    text        not null,
    customer_address text        not null,
    -- [{"product_id", "product_name", "quantity", "unit_price"}], as they were when the order was placed.
    lines            jsonb       not null,
    total            jsonb       not null,
    coordination     text        not null,
    state            text        not null,
    cancel           text        not null default 'none',
    cancel_reason    text,
    stock_reserved   boolean     not null default false,
    delivery_started boolean     not null default false,
    -- Moves with every change of the row, for compare-and-set.
    version          bigint      not null default 1,
    -- Moves with what a caller can see.
    revision         bigint      not null default 1,
    created_at       timestamptz not null,
    updated_at       timestamptz not null,
    settled_at       timestamptz,
    deadline_at      timestamptz not null,
    constraint orders_state_known check (state in ('pending', 'confirmed', 'cancelled', 'completed')),
    constraint orders_cancel_known check (cancel in ('none', 'requested', 'refused')),
    constraint orders_coordination_known check (coordination in ('choreography', 'orchestration')),
    constraint orders_reason_when_cancelled check ((state = 'cancelled') = (cancel_reason is not null)),
    constraint orders_reason_known
        check (cancel_reason in ('out_of_stock', 'customer', 'delivery_failed', 'timed_out'))
);

create index orders_deadline on orders (deadline_at) where state = 'pending';
create index orders_customer on orders (customer_id, order_id);
create index orders_state on orders (state, order_id);

-- One row per revision: what a caller could see, and what caused it.
create table order_transitions (
    order_id       uuid        not null references orders,
    revision       bigint      not null,
    -- As shown: confirmed with a requested cancel is cancelling.
    state          text        not null,
    cancel_reason  text,
    cancel_refused boolean     not null,
    cause          text        not null,
    cause_id       uuid        not null,
    event_id       uuid,
    trace_id       text,
    created_at     timestamptz not null,
    primary key (order_id, revision),
    constraint order_transitions_state_known
        check (state in ('pending', 'confirmed', 'cancelling', 'cancelled', 'completed'))
);

create table product_replicas (
    product_id text        not null primary key,
    name       text        not null,
    price      jsonb       not null,
    stock      bigint      not null,
    version    bigint      not null,
    updated_at timestamptz not null
);

-- The catalogue with its stock, and what of it was taken for which order.

create table products (
    -- Compared byte by byte, so that pages and locks follow one order everywhere.
    product_id     text collate "C" not null,
    name           text             not null,
    price_currency text             not null,
    price_units    bigint           not null,
    price_nanos    integer          not null,
    -- Pieces that can still be reserved.
    stock          bigint           not null,
    image_url      text             not null default '',
    -- [{"name", "description"}]
    options        jsonb            not null default '[]',
    -- Grows by one with every change, stock included: the compare-and-set, the etag, and what replicas go by.
    version        bigint           not null,
    created_at     timestamptz      not null,
    updated_at     timestamptz      not null,
    constraint products_pkey primary key (product_id),
    constraint products_stock_not_negative check (stock >= 0),
    constraint products_price_not_negative check (price_units >= 0 and price_nanos between 0 and 999999999),
    constraint products_options_are_a_list check (jsonb_typeof(options) = 'array'),
    constraint products_version_positive check (version > 0)
) with (fillfactor = 50); -- a popular product changes with every batch: room for the next version on the same page

-- One row per order, which only moves forward: (none) -> RESERVED -> RELEASED | (none) -> REJECTED | (none) -> TOMBSTONE.
-- Never deleted before the topics forget: a replayed order would reserve again.
create table reservations (
    order_id          uuid        not null,
    state             text        not null,
    -- What was taken: [{"product_id", "quantity"}].
    lines             jsonb       not null default '[]',
    -- The StockReserved or ProductOutOfStock that told of the decision.
    decision_event_id uuid,
    version           bigint      not null,
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now(),
    constraint reservations_pkey primary key (order_id),
    constraint reservations_state_known check (state in ('RESERVED', 'RELEASED', 'REJECTED', 'TOMBSTONE')),
    constraint reservations_lines_are_a_list check (jsonb_typeof(lines) = 'array'),
    constraint reservations_lines_where_taken check ((state in ('RESERVED', 'RELEASED')) = (lines <> '[]')),
    constraint reservations_decision_unless_tombstone check ((state = 'TOMBSTONE') = (decision_event_id is null)),
    constraint reservations_version_positive check (version > 0)
);

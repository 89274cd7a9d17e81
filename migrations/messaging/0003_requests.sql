-- Idempotency of calls: one row per (caller, request_id), written in the transaction of the call's effect.
create table messaging.requests (
    caller      text        not null,
    request_id  text        not null,
    method      text        not null,
    -- SHA-256 of the request without its request_id: the same id with other content is an error.
    fingerprint bytea       not null,
    resource_id text        not null,
    created_at  timestamptz not null default clock_timestamp(),
    constraint requests_pkey primary key (caller, request_id)
);

create index requests_age on messaging.requests (created_at);

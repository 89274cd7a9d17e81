-- Sagas: where each stands, and how it came there.

create table sagas (
    saga_id            uuid        not null primary key,
    definition         text        not null,
    -- A saga ends with the version of the definition that it began with.
    definition_version integer     not null,
    state              text        not null,
    finished           boolean     not null default false,
    facts              text[]      not null default '{}',
    -- Why the saga's aim was given up, where it was.
    cancel_reason      text,
    -- Why nothing is sent again until a person acts.
    parked_reason      text,
    -- The commands in the order of their sending: [{"command", "answer", "skipped", "attempts", "forgiven", "first_at"}].
    steps              jsonb       not null,
    -- What the saga was begun with.
    data               jsonb       not null,
    -- Moves with every change.
    version            bigint      not null default 1,
    created_at         timestamptz not null,
    updated_at         timestamptz not null,
    finished_at        timestamptz,
    -- By this database's clock: when what is not answered is sent again.
    due_at             timestamptz,
    constraint sagas_nothing_is_due_at_the_end check (not finished or due_at is null),
    constraint sagas_nothing_is_due_while_parked check (parked_reason is null or due_at is null),
    constraint sagas_finished_has_a_time check (finished = (finished_at is not null))
);

create index sagas_due on sagas (due_at) where due_at is not null;
create index sagas_state on sagas (state, saga_id);
create index sagas_unfinished on sagas (created_at) where not finished;
create index sagas_parked on sagas (saga_id) where parked_reason is not null;

-- One row per version, never changed.
create table saga_changes (
    saga_id    uuid        not null references sagas,
    version    bigint      not null,
    state      text        not null,
    parked     boolean     not null,
    -- The short name of the event, timer or verb, and its id.
    cause      text        not null,
    cause_id   uuid        not null,
    -- The commands that were sent with it.
    commands   text[]      not null,
    -- Who acted, when it was a verb, and why; or what went wrong.
    actor      text,
    reason     text,
    trace_id   text,
    created_at timestamptz not null,
    primary key (saga_id, version)
);
